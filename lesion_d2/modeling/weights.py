"""Weights from files: fetched, read without running code, complete."""

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager

from lesion_d2.errors import LesionError

logger = logging.getLogger(__name__)


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with one-line errors for unusable files."""

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


def fetch_weights(weights: str) -> None:
    """Make sure that ``MODEL.WEIGHTS`` can be had, downloading it when it is an address.

    Raises:
        LesionError: if it cannot, saying what to do instead.
    """
    if not weights:
        return
    try:
        found = Path(PathManager.get_local_path(weights)).is_file()
        reason = "no such file"
    except Exception as error:  # a download fails in as many ways as there are networks
        found, reason = False, str(error).strip().partition("\n")[0] or type(error).__name__
    if not found:
        raise LesionError(
            f"MODEL.WEIGHTS: {weights}: {reason}; without a network, download the file on another "
            "machine and pass MODEL.WEIGHTS path/to/file, or MODEL.WEIGHTS '' to start from random "
            "weights"
        )


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


class _CompleteCheckpointer(SafeCheckpointer):
    def _log_incompatible_keys(self, incompatible: Any) -> None:
        reshaped = [key for key, *_ in incompatible.incorrect_shapes]
        wrong = list(dict.fromkeys([*incompatible.missing_keys, *reshaped]))
        if wrong:
            raise LesionError(
                f"MODEL.WEIGHTS: {len(wrong)} parameters of the model are missing in the file or "
                f"have another shape there, {wrong[0]} the first; give a trained checkpoint and "
                "the config it was trained with"
            )
