"""A review of predictions: which are there, and every decision on disk before the next."""

import csv
import getpass
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from lesion_d2.errors import LesionError
from lesion_d2.files import (
    alone,
    atomic_write,
    escape_name,
    naming,
    read_whole_rows,
    set_aside,
    unescape_name,
)
from lesion_d2.images.inputs import find_images
from lesion_d2.images.masks import mask_png, read_mask
from lesion_d2.images.reading import read_header
from lesion_d2.images.source import BadFileError, read_source
from lesion_d2.parallel import progress_bar
from lesion_d2.results.formats import read_score, whole_name
from lesion_d2.results.predictions import NEEDED, PredictionFolder, Row, name_of

COLUMNS = (
    "when", "who", "name", "decision", "estimated_iou", "photograph_sha256", "model_sha256",
    "predicted_sha256", "reviewed_sha256",
)  # fmt: skip
_LONE_CR = re.compile(rb"\r(?!\n)")
_SHA256_LENGTH = 64  # hexadecimal digits
Decision = Literal["accept", "correct", "reject"]
_DECISIONS: dict[str, Decision] = {"accept": "accept", "correct": "correct", "reject": "reject"}


@dataclass(frozen=True)
class Item:
    """A prediction to review.

    Attributes:
        name: of the photograph in the folder of predictions.
        photograph: its file.
        estimated_iou: the IoU to expect; None without a confidence model.
        changed: whether the photograph seems to be another than the one that was predicted.
    """

    name: str
    photograph: Path
    estimated_iou: float | None
    changed: bool


class Review:
    """The review of a folder of predictions.

    It writes to the folder ``reviewed`` in it: ``masks/<name>_segmentation.png`` of what was
    accepted or corrected, and ``review.csv`` with a row a decision; the last one of a photograph
    counts, while the photograph, its predicted mask and its reviewed mask are those of the row. A
    reviewed mask that no row counts for is moved to ``set_aside``. Nothing else is written or
    changed.

    Attributes:
        items: the predictions, least sure first.
        left_out: those that cannot be reviewed, and why.
        decisions: of the items decided so far, by name.
    """

    def __init__(self, predictions: Path, photographs: Path) -> None:
        """Find predictions and photographs, and take up an earlier review.

        Raises:
            LesionError: there is no prediction, or no photograph of one, or a table of predictions
                cannot be read as it was written.
        """
        self._folder = PredictionFolder(predictions)
        self._reviewed = PredictionFolder(predictions / "reviewed")
        self.table = self._reviewed.root / "review.csv"
        self._photographs = photographs
        self.items, self.left_out = _find_items(self._folder, photographs)
        self._need_items()
        self.decisions: dict[str, Decision] = {}
        self._who = _user()
        self._model = _model_of(self._folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other process review the folder in such a block, and read what was decided.

        What does not count is printed, a line each, and can be decided again. A photograph that has
        changed since it was predicted is left out, unless a decision shows that it has not.

        Raises:
            LesionError: another process reviews it, its table cannot be read as it was written, or
                nothing is left to review.
        """
        with alone(self.table):
            read_whole_rows(self.table, COLUMNS)  # refused before anything in it is cut
            _end_whole(self.table)
            last = {unescape_name(row["name"]): row for row in read_whole_rows(self.table, COLUMNS)}
            # Each photograph that was decided on is read as a whole.
            bar = progress_bar(self.items, "checking decisions", disable=not last)
            for item in bar:
                if problem := self._read_decision(item, last.get(item.name)):
                    bar.write(f"undecided: {escape_name(item.name)}: {problem}")
            changed = {i.name for i in self.items if i.changed and i.name not in self.decisions}
            self.items = [item for item in self.items if item.name not in changed]
            why = "the photograph has changed since; predict it again"
            self.left_out += [(name, why) for name in sorted(changed)]
            self._need_items()
            yield

    def mask(self, item: Item) -> npt.NDArray[np.bool_]:
        """Return the mask that was decided on, else the predicted one, bool of shape (H, W).

        Raises:
            BadFileError: it cannot be read.
        """
        decided = self.decisions.get(item.name) in ("accept", "correct")
        return _read_mask((self._reviewed if decided else self._folder).mask(item.name))

    def decide(self, item: Item, decision: Decision, mask: npt.NDArray[np.bool_] | None) -> None:
        """Write a decision; when this returns it is on disk. If it raises, the one before counts.

        To accept a prediction that was corrected keeps the correction.

        Args:
            item: what is decided.
            decision: ``correct`` takes ``mask``, of shape (H, W); the others none.
            mask: as it was drawn.

        Raises:
            LesionError: a mask without lesion is accepted or drawn: nothing could learn from it.
            BadFileError: the photograph or its predicted mask cannot be read any more.
        """
        if decision == "accept" and self.decisions.get(item.name) == "correct":
            return
        photograph, predicted = read_source(item.photograph), read_source(self._mask_file(item))
        data = b""
        if decision != "reject":
            kept = _read_mask(self._mask_file(item)) if mask is None else mask
            if not kept.any():
                raise LesionError(f"{item.name}: nothing is outlined; draw it, or reject")
            data = predicted if mask is None else mask_png(kept)
        estimated = item.estimated_iou
        row = {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "who": self._who,
            "name": escape_name(item.name),
            "decision": decision,
            "estimated_iou": "" if estimated is None else f"{estimated:.4f}",
            "photograph_sha256": _sha256(photograph),
            "model_sha256": self._model,
            "predicted_sha256": _sha256(predicted),
            "reviewed_sha256": _sha256(data) if data else "",
        }
        path = self._reviewed.mask(item.name)
        if data:
            with atomic_write(path, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
                _append(self.table, row)  # before the mask takes the place of an earlier one
        else:
            _append(self.table, row)
            path.unlink(missing_ok=True)
        _sync_folder(path.parent)
        self.decisions[item.name] = decision

    def _need_items(self) -> None:
        if not self.items:
            name, why = self.left_out[0]
            raise LesionError(f"--images: {self._photographs}: none can be reviewed; {name}: {why}")

    def _mask_file(self, item: Item) -> Path:
        return self._folder.mask(item.name)

    def _read_decision(self, item: Item, row: dict[str, str] | None) -> str:
        """Take up the decision of a row; return why it, or a reviewed mask, does not count."""
        mask = self._reviewed.mask(item.name)
        if row is None:
            if not mask.is_file():
                return ""
            problem = f"{self.table.name} has no row of its mask"
        else:
            files = {
                "photograph_sha256": item.photograph,
                "predicted_sha256": self._mask_file(item),
                "reviewed_sha256": mask,
            }
            other = [column for column, path in files.items() if row[column] != _hash_of(path)]
            if not other and row["decision"] in _DECISIONS:
                self.decisions[item.name] = _DECISIONS[row["decision"]]
                return ""
            problem = f"not as in {self.table.name}: {', '.join(other) or 'decision'}"
        if mask.is_file():
            place = self._reviewed.root / "set_aside" / f"{item.name}_segmentation"
            problem += f"; the reviewed mask is now {escape_name(set_aside(mask, place))}"
        return problem


def _find_items(
    folder: PredictionFolder, photographs: Path
) -> tuple[list[Item], list[tuple[str, str]]]:
    rows = {
        name: row
        for table in folder.tables
        for row in read_whole_rows(table, (*NEEDED, "file_bytes"))
        if (name := name_of(row))
    }
    if not rows:
        raise LesionError(
            f"--review: {folder.root} holds no predictions; give a folder of tools/predict.py"
        )
    files = _find_photographs(photographs, folder.root)
    items, left_out = [], []
    for name, row in rows.items():
        given = unescape_name(row["file"])
        own = os.path.realpath(given)
        path = files.get(own) or files.get(whole_name(given, name)) or files.get(name)
        if path is None:
            left_out.append((name, f"no photograph of this name in {photographs}"))
        elif not folder.mask(name).is_file():
            left_out.append((name, "its mask is missing; predict it again"))
        elif not path.is_file():
            left_out.append((name, "the photograph is a link to nothing"))
        else:
            changed = _has_changed(path, row, copied=os.path.realpath(path) != own)
            items.append(Item(name, path, read_score(folder, row, "estimated_iou"), changed))
    items.sort(key=lambda item: (item.estimated_iou or 0.0, item.name))
    return items, left_out


def _find_photographs(photographs: Path, output: Path) -> dict[str, Path]:
    """Return them by their path, and by their name with and without its suffix."""
    try:
        files = find_images([str(photographs)], output)
    except LesionError as error:
        raise LesionError(f"--images: {str(error).removeprefix('--input: ')}") from error
    found = {file.name: file.path for file in files}
    found |= {whole_name(str(file.path), file.name): file.path for file in files}
    return found | {os.path.realpath(file.path): file.path for file in files}


def _has_changed(path: Path, row: Row, copied: bool) -> bool:
    """Say whether a photograph has another size than its row says, or, where it lay, another time.

    A copy has a time of its own. A time that another program has rounded tells nothing.
    """
    state, time = path.stat(), row.get("file_modified_ns", "")
    same_time = copied or not time.isdigit() or time == str(state.st_mtime_ns)
    return str(state.st_size) != row["file_bytes"] or not same_time


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without users
        return ""


def _model_of(folder: PredictionFolder) -> str:
    try:
        return str(json.loads(folder.settings.read_text(encoding="utf-8"))["weights_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _read_mask(path: Path) -> npt.NDArray[np.bool_]:
    data = read_source(path)
    try:
        return read_mask(data, read_header(data), 255, lambda reason, seen: None)
    except BadFileError as error:
        raise BadFileError(error.reason, f"{path.name}: {error}") from error


def _append(table: Path, row: dict[str, str]) -> None:
    _end_whole(table)
    with naming(table), open(table, "a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if not stream.tell():
            writer.writeheader()
        writer.writerow(row)
        stream.flush()
        os.fsync(stream.fileno())


def _end_whole(table: Path) -> None:
    """End a table with a whole row: one without its newline gets it, a torn one is cut.

    Raises:
        LesionError: another program has ended its lines so that rows cannot be told apart.
    """
    if not table.is_file():
        return
    with naming(table), open(table, "r+b") as stream:
        data = stream.read()
        if _LONE_CR.search(data):
            raise LesionError(f"{table}: its lines end in CR alone; save it with LF or CR and LF")
        start = data.rfind(b"\n") + 1
        if start == len(data):
            return
        fields = next(csv.reader([data[start:].decode("utf-8", "replace")]), [])
        row = dict(zip(COLUMNS, fields, strict=False))
        length = 0 if row.get("decision") == "reject" else _SHA256_LENGTH
        if len(fields) == len(COLUMNS) and len(row["reviewed_sha256"]) == length:
            stream.write(b"\n")
        else:
            stream.truncate(start)


def _sync_folder(folder: Path) -> None:
    """Put on disk what was renamed or removed in a folder, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, or nothing where none can be read."""
    try:
        return _sha256(path.read_bytes()) if path.is_file() else ""
    except OSError:
        return ""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
