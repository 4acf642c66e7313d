"""Checkpoints that survive a kill, load without running code, and remember the best model."""

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase

from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write

logger = logging.getLogger(__name__)


class LesionCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with atomic writes and one-line errors for unusable files."""

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

    def _load_file(self, filename: str) -> Any:
        if filename.endswith(".pkl"):
            logger.warning(
                "%s is a Python pickle, which can run code when read: use such files only from the "
                "Detectron2 model zoo or from yourself",
                filename,
            )
        try:
            return super()._load_file(filename)
        except Exception as error:  # torch and pickle raise anything, depending on the damage
            reason = str(error).strip().partition("\n")[0] or "no content"
            raise LesionError(
                f"{filename}: not a checkpoint that can be loaded without running code ({reason}); "
                "give a .pth file that holds tensors and plain values only"
            ) from error


def check_trained_file(weights: str) -> None:
    """Raise a LesionError if there is no file ``weights``."""
    if not Path(weights).is_file():
        raise LesionError(
            f"MODEL.WEIGHTS: {weights or '(empty)'}: no such file; give a checkpoint that "
            "tools/train_net.py wrote, such as OUTPUT_DIR/model_best.pth"
        )


def load_trained(model: torch.nn.Module, weights: str) -> None:
    """Load a trained model's weights for evaluation or prediction.

    Args:
        model: the model to fill.
        weights: a checkpoint file of a model with the same config.

    Raises:
        LesionError: if there is no such file, or it lacks any of the model's parameters or has
            them in another shape (pretrained weights, or another config's).
    """
    check_trained_file(weights)
    _CompleteCheckpointer(model).load(weights, checkpointables=[])


class _CompleteCheckpointer(LesionCheckpointer):
    def _log_incompatible_keys(self, incompatible: Any) -> None:
        reshaped = [key for key, *_ in incompatible.incorrect_shapes]
        wrong = list(dict.fromkeys([*incompatible.missing_keys, *reshaped]))
        if wrong:
            raise LesionError(
                f"MODEL.WEIGHTS: {len(wrong)} parameters of the model are missing in the file or "
                f"have another shape there, {wrong[0]} the first; give a trained checkpoint and "
                "the config it was trained with"
            )


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
