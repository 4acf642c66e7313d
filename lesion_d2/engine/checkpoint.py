"""Checkpoints that survive a kill, and remember the best model."""

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase

from lesion_d2.files import atomic_write
from lesion_d2.modeling.weights import SafeCheckpointer

logger = logging.getLogger(__name__)


class LesionCheckpointer(SafeCheckpointer):
    """Writes whole files or none."""

    def save(self, name: str, *, tag: bool = True, **extra: Any) -> None:
        """Write ``<name>.pth`` whole or not at all.

        Args:
            name: file name without suffix.
            tag: make it the checkpoint that ``--resume`` continues from.
            extra: further entries of the file.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        state = {key: item.state_dict() for key, item in self.checkpointables.items()}
        path = Path(self.save_dir) / f"{name}.pth"
        with atomic_write(path, "wb") as stream:
            torch.save({"model": self.model.state_dict(), **state, **extra}, stream)
        logger.info("Saved checkpoint %s", path)
        if tag:
            self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record the checkpoint that ``--resume`` continues from."""
        with atomic_write(Path(self.save_dir) / "last_checkpoint") as stream:
            stream.write(last_filename_basename)


class BestCheckpoint(HookBase):
    """Writes ``model_best.pth`` whenever a validation metric reaches a new maximum.

    Unlike Detectron2's hook, the maximum so far is part of each checkpoint, so that the best model
    stays the best across ``--resume``. Must come after the hook that evaluates and before the one
    that writes the periodic checkpoints.

    Args:
        period: iterations between evaluations.
        checkpointer: writes the file.
        metric: name of the metric in the event storage.
    """

    FILE_NAME = "model_best"

    def __init__(self, period: int, checkpointer: LesionCheckpointer, metric: str) -> None:
        self._period = period
        self._checkpointer = checkpointer
        self._metric = metric
        self._best = float("-inf")
        self._best_iteration = -1

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far and its iteration, as plain numbers."""
        return {"best": self._best, "iteration": self._best_iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._best, self._best_iteration = state["best"], state["iteration"]

    def after_step(self) -> None:
        """Check after each evaluation but the last, which follows in :meth:`after_train`."""
        done = self.trainer.iter + 1
        if done % self._period == 0 and done != self.trainer.max_iter:
            self._check()

    def after_train(self) -> None:
        """Check the last evaluation, unless training ended early."""
        if self.trainer.iter >= self.trainer.max_iter:
            self._check()

    def _check(self) -> None:
        value, _ = self.trainer.storage.latest()[self._metric]
        if float(value) <= self._best:
            logger.info(
                "%s %.4f; the best remains %.4f of iteration %d",
                self._metric,
                value,
                self._best,
                self._best_iteration,
            )
            return
        # Plain numbers: a numpy scalar would make the checkpoint unreadable under weights_only.
        self._best, self._best_iteration = float(value), int(self.trainer.iter)
        self._checkpointer.save(self.FILE_NAME, tag=False)
        logger.info("%s %.4f: new best model", self._metric, value)
