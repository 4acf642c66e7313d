"""Training steps against Detectron2's trainer and model as they come."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer

from lesion_d2.benchmark.data import converted
from lesion_d2.benchmark.machine import to_the_end, use_threads
from lesion_d2.benchmark.memory import peak_memory
from lesion_d2.benchmark.models import LEARNING_RATE, benchmark_config, fill_for_benchmark
from lesion_d2.benchmark.operations import MatrixProduct, step_operations
from lesion_d2.benchmark.options import Options
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals.stock_detectron2 import stock_config
from lesion_d2.benchmark.steps import Batch, OurTrainer, StockTrainer, TrainerSteps
from lesion_d2.benchmark.timing import Contender, Spread, alternate, ratio
from lesion_d2.config.schedule import Stage, stages_from_config
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.loader import build_train_loader
from lesion_d2.engine.trainer import BFloat16Trainer

OURS, STOCK = "lesion_d2", "DefaultTrainer"
_MEMORY_STEPS = 2  # the second one holds the optimizer's momentum, too
_REGIONS = "roi_head/num_fg_samples"


class Experiment(NamedTuple):
    """What a process needs to build a contender; picklable.

    Attributes:
        options: of the benchmark.
        root: converted data set.
        start: iteration that the stage begins with.
        freeze_at: of the stage.
    """

    options: Options
    root: Path
    start: int = 0
    freeze_at: int = 0

    def config(self) -> CfgNode:
        """Return the experiment's config."""
        register_dataset("benchmark", self.root)
        cfg = benchmark_config(self.options)
        cfg.DATASETS.TRAIN = ("benchmark_train",)
        cfg.DATALOADER.NUM_WORKERS = 0
        return cfg

    def stock_config(self) -> CfgNode:
        """Return the model zoo's config for the same work."""
        stock = stock_config(self.config())
        stock.MODEL.BACKBONE.FREEZE_AT = self.freeze_at
        stock.SOLVER.BASE_LR = LEARNING_RATE
        return stock

    def batches(self) -> list[Batch]:
        """Return the batches that every contender trains on."""
        cfg = self.config()
        count = max(1, self.options.images // cfg.SOLVER.IMS_PER_BATCH)
        return list(islice(build_train_loader(cfg), count))


def run(options: Options) -> tuple[str, list[Section]]:
    """Measure each stage; return the device, and the results."""
    benchmark_config(options)  # before any work
    experiment = Experiment(options, converted(options, "train").resolve())
    cfg = experiment.config()
    stages = stages_from_config(cfg)
    starts = [0, *(stage.end for stage in stages[:-1])]
    return cfg.MODEL.DEVICE, [
        _stage(experiment._replace(start=start, freeze_at=stage.freeze_at), cfg, number, stage)
        for number, (start, stage) in enumerate(zip(starts, stages, strict=True), start=1)
    ]


def ours(experiment: Experiment) -> TrainerSteps:
    """Return steps of this project's trainer."""
    return _detectron2(experiment, OurTrainer(experiment.config()), experiment.start)


def stock(experiment: Experiment) -> TrainerSteps:
    """Return steps of Detectron2's trainer with the model zoo's config."""
    return _detectron2(experiment, StockTrainer(experiment.stock_config()), 0)


def _detectron2(
    experiment: Experiment, trainer: OurTrainer | StockTrainer, start: int
) -> TrainerSteps:
    batches = experiment.batches()
    fill_for_benchmark(trainer.model, experiment.options.weights, batches[0])
    return TrainerSteps(trainer, batches, start)


_BUILD: dict[str, Callable[[Experiment], TrainerSteps]] = {OURS: ours, STOCK: stock}


def build_steps(experiment: Experiment, name: str) -> TrainerSteps:
    """Return a contender, of the same random weights each time."""
    torch.manual_seed(0)
    return _BUILD[name](experiment)


def train_a_little(experiment: Experiment, name: str) -> None:
    """Build one contender and run a few steps; its memory is measured in a process of its own."""
    use_threads(experiment.options.threads)
    step = build_steps(experiment, name)
    for _ in range(_MEMORY_STEPS):
        step()


def _stage(experiment: Experiment, cfg: CfgNode, number: int, stage: Stage) -> Section:
    options, device = experiment.options, cfg.MODEL.DEVICE
    measured = _BUILD if options.memory else ()
    peaks = {name: peak_memory(train_a_little, experiment, name) for name in measured}
    steps = {name: build_steps(experiment, name) for name in _BUILD}
    batch = experiment.batches()[0]
    operations = {}
    for name, step in steps.items():
        step()  # freezes what the stage has frozen
        operations[name] = step_operations(step.trainer.model, batch)
    # A floor is what a step's operations take at the rate of matrix products of its type.
    products = {name: MatrixProduct(_precision(step), device) for name, step in steps.items()}
    floors = {
        name: f"floor of {name}, {str(_precision(step)).removeprefix('torch.')}"
        for name, step in steps.items()
    }
    contenders = [Contender(name, to_the_end(step, device)) for name, step in steps.items()]
    contenders += [
        Contender(floors[name], to_the_end(product, device)) for name, product in products.items()
    ]
    seconds = alternate(contenders, options.repeats, f"stage {number}")
    for name, product in products.items():
        share = operations[name] / product.operations
        seconds[floors[name]] = [value * share for value in seconds[floors[name]]]
    columns: dict[str, dict[str, float | Spread]] = {
        "GFLOP a step": {name: count / 1e9 for name, count in operations.items()},
        "times its floor": {
            name: ratio(seconds[name], seconds[floor]) for name, floor in floors.items()
        },
        "lesion regions an image": {
            name: step.trainer.storage.history(_REGIONS).avg(options.repeats)
            for name, step in steps.items()
        },
    }
    title = (
        f"stage {number}: FREEZE_AT {stage.freeze_at}, {cfg.SOLVER.IMS_PER_BATCH} images a step, "
        f"{options.weights_words}"
    )
    return Section(title, "step", 1, seconds, (STOCK,), peaks, columns)


def _precision(steps: TrainerSteps) -> torch.dtype:
    loop = steps.trainer._trainer
    if isinstance(loop, AMPTrainer):
        return torch.float16
    return torch.bfloat16 if isinstance(loop, BFloat16Trainer) else torch.float32
