"""Trainers that run one step at a time, with nothing but what belongs to each step."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine.hooks import IterationTimer, LRScheduler
from detectron2.utils.events import EventStorage

from lesion_d2.engine.hooks import SeedEachStep
from lesion_d2.engine.staged_freeze import StagedFreeze
from lesion_d2.engine.trainer import LesionTrainer

Batch = Sequence[Mapping[str, Any]]
# The others evaluate or write files, now and then.
_EACH_STEP = (IterationTimer, LRScheduler, SeedEachStep, StagedFreeze)


class _EachStepOnly(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        return []

    def build_hooks(self) -> list[HookBase]:
        return [hook for hook in super().build_hooks() if isinstance(hook, _EACH_STEP)]


class OurTrainer(_EachStepOnly, LesionTrainer):
    """This project's, without its own data."""


class StockTrainer(_EachStepOnly):
    """Detectron2's, without its own data."""

    def __init__(self, cfg: CfgNode) -> None:
        logger = logging.getLogger("detectron2")
        level = logger.level
        logger.setLevel(logging.INFO)  # else the trainer makes it write to the terminal
        super().__init__(cfg)
        logger.setLevel(level)


class TrainerSteps:
    """Calls run one step of a trainer each.

    Args:
        trainer: to run.
        batches: what it reads, repeated without end.
        iteration: to start from; the stage follows from it.
    """

    def __init__(
        self, trainer: _EachStepOnly, batches: Iterable[Batch], iteration: int = 0
    ) -> None:
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
