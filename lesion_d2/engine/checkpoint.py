"""Checkpoints that survive a kill."""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write
from lesion_d2.modeling.weights import read_checkpoint

logger = logging.getLogger(__name__)


class LesionCheckpointer(DetectionCheckpointer):
    """Detectron2's, reading files with :func:`read_checkpoint` and writing whole ones or none."""

    def _load_file(self, filename: str) -> dict[str, Any]:
        return read_checkpoint(filename)[0]

    def save(self, name: str, *, tag: bool = True, **extra: Any) -> None:
        """Write ``<name>.pth``, with ``extra`` entries; a tagged one is continued from."""
        if not self.save_dir or not self.save_to_disk:
            return
        state = {key: item.state_dict() for key, item in self.checkpointables.items()}
        path = Path(self.save_dir) / f"{name}.pth"
        with atomic_write(path, "wb") as stream:
            torch.save({"model": self.model.state_dict(), **state, **extra}, stream)
        logger.info("Saved checkpoint %s", path)
        if tag:
            self.tag_last_checkpoint(path.name)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Refuse weights of another backbone, which Detectron2 would leave random with a warning.

        Raises:
            LesionError: if a weight of the backbone is missing or has another shape.
        """
        absent = [*incompatible.missing_keys, *(key for key, *_ in incompatible.incorrect_shapes)]
        wrong = [key for key in absent if re.match(r"backbone\.(?!fpn_).*\.weight$", key)]
        if wrong:
            raise LesionError(
                f"MODEL.WEIGHTS: {len(wrong)} weights of the backbone are missing in the file or "
                f"have another shape there, {wrong[0]} the first; give weights of this backbone, "
                "or '' to start from random ones"
            )
        super()._log_incompatible_keys(incompatible)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record the checkpoint that ``--resume`` continues from."""
        with atomic_write(Path(self.save_dir) / "last_checkpoint") as stream:
            stream.write(last_filename_basename)


def check_resumable(folder: Path) -> None:
    """Make sure that the checkpoint which ``--resume`` continues from is there and whole.

    Raises:
        LesionError: if not; it names the newest checkpoint that is, and how to continue from it.
    """
    last = folder / "last_checkpoint"
    name = last.read_text(errors="replace").strip() if last.is_file() else ""
    if name and Path(name).name == name and _iteration(folder / name) is not None:
        return
    wrong = f"names {name!r}, which is missing or damaged" if name else "is missing or empty"
    # Not the best model: it may be an average of weights, which no training went on from.
    files = {*folder.glob("model_*.pth")} - {folder / "model_best.pth"}
    whole = [(_iteration(file), file.name) for file in files]
    newest = max(((i, file) for i, file in whole if i is not None), default=None)
    if not newest:
        raise LesionError(
            f"{last}: {wrong}, and no other checkpoint is whole; start anew in another OUTPUT_DIR"
        )
    raise LesionError(
        f"{last}: {wrong}; the newest whole checkpoint is {newest[1]}, after {newest[0] + 1} "
        f"iterations; to continue from it: printf {newest[1]} > {last}, then --resume again"
    )


def _iteration(file: Path) -> int | None:
    """Return the last iteration that a checkpoint has in it; None if it is not whole."""
    try:
        # Reads the directory of the file, but no tensor.
        content = torch.load(file, map_location="meta", mmap=True, weights_only=True)
        return int(content["trainer"]["iteration"])
    except Exception:  # torch raises anything, depending on the damage
        return None
