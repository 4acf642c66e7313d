"""Training steps against Detectron2's trainer and model as they come, and torchvision's model."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer
from detectron2.modeling import build_model

from lesion_d2.benchmark.data import converted
from lesion_d2.benchmark.machine import to_the_end, use_threads
from lesion_d2.benchmark.memory import peak_memory
from lesion_d2.benchmark.models import LEARNING_RATE, benchmark_config, fill
from lesion_d2.benchmark.operations import MatrixProduct, step_operations
from lesion_d2.benchmark.options import Common, check_count
from lesion_d2.benchmark.report import Section
from lesion_d2.benchmark.rivals.stock_detectron2 import stock_config
from lesion_d2.benchmark.rivals.torchvision_model import build_torchvision, copy_weights, freeze
from lesion_d2.benchmark.steps import (
    Batch,
    OurTrainer,
    StockTrainer,
    TorchvisionSteps,
    TrainerSteps,
)
from lesion_d2.benchmark.timing import Contender, Spread, alternate, ratio
from lesion_d2.config.schedule import Stage, stages_from_config
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.loader import build_train_loader
from lesion_d2.engine.trainer import BFloat16Trainer

OURS, STOCK, TORCHVISION = "lesion_d2", "DefaultTrainer", "torchvision"
_MEMORY_STEPS = 2  # the second one holds the optimizer's momentum, too
_REGIONS = "roi_head/num_fg_samples"


@dataclass(frozen=True)
class Experiment:
    """What a process needs to build a contender; picklable.

    Attributes:
        common: options of all benchmarks.
        config_file: experiment.
        opts: overrides of it.
        weights: a checkpoint of it; None leaves weights random.
        root: converted data set.
        matrix_side: of the matrices that give the machine's rate.
    """

    common: Common
    config_file: str
    opts: list[str]
    weights: Path | None
    root: Path
    matrix_side: int

    def config(self) -> CfgNode:
        """Return the experiment's config."""
        register_dataset("benchmark", self.root)
        cfg = benchmark_config(self.common, self.config_file, self.opts)
        cfg.DATASETS.TRAIN = ("benchmark_train",)
        cfg.DATALOADER.NUM_WORKERS = 0
        return cfg

    def batches(self, cfg: CfgNode) -> list[Batch]:
        """Return the batches that every contender trains on."""
        count = max(1, self.common.images // cfg.SOLVER.IMS_PER_BATCH)
        return list(islice(build_train_loader(cfg), count))


def run(
    common: Common, config_file: str, opts: list[str], weights: Path | None, matrix_side: int
) -> tuple[str, list[Section]]:
    """Measure each stage.

    Args:
        common: options of all benchmarks; its data set is a converted one.
        config_file: experiment.
        opts: overrides of it.
        weights: a checkpoint of it; None leaves weights random.
        matrix_side: of the matrices that give the machine's rate.

    Returns:
        the device, and the results.
    """
    check_count("--matrix-side", matrix_side)
    benchmark_config(common, config_file, opts, weights)  # before any work
    root = converted(common, "train")
    experiment = Experiment(common, config_file, opts, weights, root.resolve(), matrix_side)
    cfg = experiment.config()
    starts = [0, *(stage.end for stage in stages_from_config(cfg))]
    return cfg.MODEL.DEVICE, [
        _stage(experiment, cfg, number, start, stage)
        for number, (start, stage) in enumerate(
            zip(starts, stages_from_config(cfg), strict=False), start=1
        )
    ]


def _ours(experiment: Experiment, cfg: CfgNode, start: int, freeze_at: int) -> TrainerSteps:
    torch.manual_seed(0)
    trainer = OurTrainer(cfg)
    batches = experiment.batches(cfg)
    fill(trainer.model, experiment.weights, batches[0])
    return TrainerSteps(trainer, batches, start)


def _stock(experiment: Experiment, cfg: CfgNode, start: int, freeze_at: int) -> TrainerSteps:
    torch.manual_seed(0)
    trainer = StockTrainer(_stock_config(cfg, freeze_at))
    batches = experiment.batches(cfg)
    fill(trainer.model, experiment.weights, batches[0])
    return TrainerSteps(trainer, batches)


def _torchvision(
    experiment: Experiment, cfg: CfgNode, start: int, freeze_at: int
) -> TorchvisionSteps:
    torch.manual_seed(0)
    stock_cfg = _stock_config(cfg, freeze_at)
    stock = build_model(stock_cfg)
    batches = experiment.batches(cfg)
    fill(stock, experiment.weights, batches[0])
    model = build_torchvision(stock_cfg, cfg.INPUT.MIN_SIZE_TRAIN[0], cfg.INPUT.MAX_SIZE_TRAIN)
    copy_weights(stock, model)
    freeze(model, freeze_at)
    return TorchvisionSteps(model, batches, cfg.MODEL.DEVICE)


_BUILD: dict[str, Callable[..., TrainerSteps | TorchvisionSteps]] = {
    OURS: _ours,
    STOCK: _stock,
    TORCHVISION: _torchvision,
}


def _stock_config(cfg: CfgNode, freeze_at: int) -> CfgNode:
    stock = stock_config(cfg)
    stock.MODEL.BACKBONE.FREEZE_AT = freeze_at
    stock.SOLVER.BASE_LR = LEARNING_RATE
    return stock


def train_a_little(experiment: Experiment, name: str, start: int, freeze_at: int) -> None:
    """Build one contender and run a few steps; its memory is measured in a process of its own."""
    use_threads(experiment.common.threads)
    step = _BUILD[name](experiment, experiment.config(), start, freeze_at)
    for _ in range(_MEMORY_STEPS):
        step()


@dataclass(frozen=True)
class Floor:
    """What a contender's operations take at the rate of matrix products.

    Attributes:
        of: name of the contender.
        product: of two matrices of the type that it computes in.
        operations: of one of its steps.
    """

    of: str
    product: MatrixProduct
    operations: float

    def __str__(self) -> str:
        return f"floor of {self.of}, {self.product.dtype_name}"

    def step_seconds(self, seconds: list[float]) -> list[float]:
        """Return what a step would take, from the seconds of one product."""
        return [value * self.operations / self.product.operations for value in seconds]


def _stage(experiment: Experiment, cfg: CfgNode, number: int, start: int, stage: Stage) -> Section:
    common, device = experiment.common, cfg.MODEL.DEVICE
    peaks = {
        name: peak_memory(train_a_little, experiment, name, start, stage.freeze_at)
        for name in (_BUILD if common.memory else ())
    }
    steps = {name: build(experiment, cfg, start, stage.freeze_at) for name, build in _BUILD.items()}
    batch = experiment.batches(cfg)[0]
    floors = [
        Floor(
            name,
            MatrixProduct(experiment.matrix_side, _precision(step), device),
            step_operations(step.trainer.model, batch, stage.freeze_at),
        )
        for name, step in steps.items()
        if isinstance(step, TrainerSteps)
    ]
    contenders = [Contender(name, to_the_end(step, device)) for name, step in steps.items()]
    contenders += [Contender(str(floor), to_the_end(floor.product, device)) for floor in floors]
    seconds = alternate(contenders, common.repeats, f"stage {number}")
    for floor in floors:
        seconds[str(floor)] = floor.step_seconds(seconds[str(floor)])
    columns: dict[str, dict[str, float | Spread]] = {
        "GFLOP a step": {floor.of: floor.operations / 1e9 for floor in floors},
        "times its floor": {
            floor.of: ratio(seconds[floor.of], seconds[str(floor)]) for floor in floors
        },
        "lesion regions an image": {
            name: step.trainer.storage.history(_REGIONS).avg(common.repeats)
            for name, step in steps.items()
            if isinstance(step, TrainerSteps)
        },
    }
    title = (
        f"stage {number}: FREEZE_AT {stage.freeze_at}, {cfg.SOLVER.IMS_PER_BATCH} images a step, "
        f"{'given' if experiment.weights else 'random'} weights"
    )
    return Section(title, "step", 1, seconds, (STOCK, TORCHVISION), peaks, columns)


def _precision(steps: TrainerSteps) -> torch.dtype:
    loop = steps.trainer._trainer
    if isinstance(loop, AMPTrainer):
        return torch.float16
    return torch.bfloat16 if isinstance(loop, BFloat16Trainer) else torch.float32
