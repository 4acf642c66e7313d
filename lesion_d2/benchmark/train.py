"""Training steps against Detectron2's trainer and model as they come."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer

from lesion_d2.benchmark.data import converted
from lesion_d2.benchmark.models import LEARNING_RATE, benchmark_config, fill_for_benchmark
from lesion_d2.benchmark.operations import MATRIX_SIDE, matrix_product, step_operations
from lesion_d2.benchmark.options import Options
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals.stock_detectron2 import stock_config
from lesion_d2.benchmark.steps import Batch, OurTrainer, StockTrainer, TrainerSteps
from lesion_d2.benchmark.timing import Spread, alternate, ratio
from lesion_d2.config.schedule import Stage, stages_from_config
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.loader import build_train_loader
from lesion_d2.engine.trainer import BFloat16Trainer

OURS, STOCK = "lesion_d2", "DefaultTrainer"
_REGIONS = "roi_head/num_fg_samples"


def run(options: Options) -> tuple[str, list[Section]]:
    """Measure each stage; return the device, and the results."""
    cfg = benchmark_config(options)
    register_dataset("benchmark", converted(options, "train"))
    cfg.DATASETS.TRAIN = ("benchmark_train",)
    cfg.DATALOADER.NUM_WORKERS = 0
    count = max(1, options.images // cfg.SOLVER.IMS_PER_BATCH)
    batches = list(islice(build_train_loader(cfg), count))
    stages = stages_from_config(cfg)
    starts = [0, *(stage.end for stage in stages[:-1])]
    return cfg.MODEL.DEVICE, [
        _stage(options, cfg, batches, number, stage, start)
        for number, (start, stage) in enumerate(zip(starts, stages, strict=True), start=1)
    ]


def _stage(
    options: Options, cfg: CfgNode, batches: list[Batch], number: int, stage: Stage, start: int
) -> Section:
    device = cfg.MODEL.DEVICE
    steps = _contenders(options, cfg, batches, stage, start)
    operations = {}
    for name, step in steps.items():
        step()  # freezes what the stage has frozen
        operations[name] = step_operations(step.trainer.model, batches[0])
    # A floor is what a step's operations take at the rate of matrix products of its type.
    floors = {
        name: f"floor of {name}, {str(_precision(step)).removeprefix('torch.')}"
        for name, step in steps.items()
    }
    work: dict[str, Callable[[], object]] = dict(steps)
    work |= {floors[name]: matrix_product(_precision(step), device) for name, step in steps.items()}
    contenders = {name: partial(_to_the_end, once, device) for name, once in work.items()}
    seconds = alternate(contenders, options.repeats, f"stage {number}")
    for name, floor in floors.items():
        share = operations[name] / (2 * MATRIX_SIDE**3)
        seconds[floor] = [value * share for value in seconds[floor]]
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
    return Section(title, "step", 1, seconds, (STOCK,), columns)


def _contenders(
    options: Options, cfg: CfgNode, batches: Sequence[Batch], stage: Stage, start: int
) -> dict[str, TrainerSteps]:
    """Return steps of both trainers, with the same weights or of the same random seed."""
    stock = stock_config(cfg)
    stock.MODEL.BACKBONE.FREEZE_AT = stage.freeze_at
    stock.SOLVER.BASE_LR = LEARNING_RATE
    steps = {}
    for name, build, config, iteration in (
        (OURS, OurTrainer, cfg, start),
        (STOCK, StockTrainer, stock, 0),
    ):
        torch.manual_seed(0)
        trainer = build(config)
        fill_for_benchmark(trainer.model, options.weights, batches[0])
        steps[name] = TrainerSteps(trainer, batches, iteration)
    return steps


def _precision(steps: TrainerSteps) -> torch.dtype:
    loop = steps.trainer._trainer
    if isinstance(loop, AMPTrainer):
        return torch.float16
    return torch.bfloat16 if isinstance(loop, BFloat16Trainer) else torch.float32


def _to_the_end(once: Callable[[], object], device: str) -> None:
    once()
    if device == "cuda":
        torch.cuda.synchronize()  # until the GPU has done its part, too
