"""Training steps against Detectron2's trainer and model as they come."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine.hooks import IterationTimer, LRScheduler
from detectron2.utils.events import EventStorage

from lesion_d2.benchmark.data import Options, converted
from lesion_d2.benchmark.models import LEARNING_RATE, benchmark_config, fill_for_benchmark
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals import stock_config
from lesion_d2.benchmark.timing import alternate
from lesion_d2.config.schedule import Stage, stages_from_config
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.loader import build_train_loader
from lesion_d2.engine.hooks import SeedEachStep
from lesion_d2.engine.staged_freeze import StagedFreeze
from lesion_d2.engine.trainer import LesionTrainer

Batch = Sequence[Mapping[str, Any]]
OURS, STOCK = "lesion_d2", "DefaultTrainer"
_REGIONS = "roi_head/num_fg_samples"
# The others evaluate or write files, now and then.
_EACH_STEP = (IterationTimer, LRScheduler, SeedEachStep, StagedFreeze)


class EachStepTrainer(DefaultTrainer):
    """Detectron2's trainer with what belongs to each step alone, and without its own data."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Return nothing: :class:`TrainerSteps` brings the batches."""
        return []

    def build_hooks(self) -> list[HookBase]:
        """Return the hooks that do something in each step."""
        return [hook for hook in super().build_hooks() if isinstance(hook, _EACH_STEP)]


class OurTrainer(EachStepTrainer, LesionTrainer):
    """This project's trainer, likewise."""


class TrainerSteps:
    """Calls run one step of a trainer each, to the end.

    Args:
        trainer: to run.
        batches: what it reads, repeated without end.
        iteration: to start from; the stage follows from it.
    """

    def __init__(self, trainer: EachStepTrainer, batches: Iterable[Batch], iteration: int) -> None:
        self.trainer = trainer
        trainer.iter = trainer.start_iter = iteration
        trainer.storage = EventStorage(iteration)
        trainer._trainer.data_loader = cycle(batches)
        trainer._trainer._data_loader_iter_obj = None
        with trainer.storage:
            trainer.before_train()

    def __call__(self) -> None:
        """Run a step."""
        with self.trainer.storage:
            self.trainer.before_step()
            self.trainer.run_step()
            self.trainer.after_step()
        self.trainer.iter += 1
        if torch.device(self.trainer.cfg.MODEL.DEVICE).type == "cuda":
            torch.cuda.synchronize()  # until the GPU has done its part, too


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
    sections = []
    for number, (start, stage) in enumerate(zip(starts, stages, strict=True), start=1):
        steps = _contenders(options, cfg, batches, stage, start)
        seconds = alternate(steps, options.repeats, f"stage {number}")
        regions = {
            name: step.trainer.storage.history(_REGIONS).avg(options.repeats)
            for name, step in steps.items()
        }
        title = (
            f"stage {number}: FREEZE_AT {stage.freeze_at}, {cfg.SOLVER.IMS_PER_BATCH} images a "
            f"step, {'given' if options.weights else 'random'} weights"
        )
        columns = {"lesion regions an image": regions}
        sections.append(Section(title, "step", 1, seconds, (STOCK,), columns))
    return cfg.MODEL.DEVICE, sections


def _contenders(
    options: Options, cfg: CfgNode, batches: Sequence[Batch], stage: Stage, start: int
) -> dict[str, TrainerSteps]:
    """Return steps of both trainers, with the same weights or of the same random seed."""
    stock = stock_config(cfg)
    stock.MODEL.BACKBONE.FREEZE_AT = stage.freeze_at
    stock.SOLVER.BASE_LR = LEARNING_RATE
    logger = logging.getLogger("detectron2")
    level = logger.level
    logger.setLevel(logging.INFO)  # else a trainer makes it write to the terminal
    steps = {}
    for name, build, config, iteration in (
        (OURS, OurTrainer, cfg, start),
        (STOCK, EachStepTrainer, stock, 0),
    ):
        torch.manual_seed(0)
        trainer = build(config)
        fill_for_benchmark(trainer.model, options.weights, batches[0])
        steps[name] = TrainerSteps(trainer, batches, iteration)
    logger.setLevel(level)
    return steps
