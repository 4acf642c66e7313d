"""The folder that a conversion creates: whole or not at all."""

import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lesion_d2.convert.pair import Record
from lesion_d2.convert.pairs import AuditRow
from lesion_d2.data.converted import SPLITS
from lesion_d2.errors import LesionError
from lesion_d2.files import alone, atomic_write, escape_name, read_json, walk_files

AUDIT = "audit.csv"
_NAMES = {"images", "split.json", AUDIT, *(f"{split}.json" for split in SPLITS)}


def _check_output(output: Path, overwrite: bool) -> None:
    """Refuse a file, and a folder with content that may not be replaced.

    Without ``overwrite`` that is any but the audit of a conversion that found no pair, with it
    anything but the files that a converted data set lists itself.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise LesionError(f"{output}: is a file; give a folder that is empty or does not exist")
    names = {path.name for path in output.iterdir()}
    if names <= {AUDIT}:
        return
    if not overwrite:
        raise LesionError(
            f"{output}: is not empty; give another folder, "
            "or --overwrite to replace a converted data set"
        )
    others = sorted(_others(output))
    if others or "split.json" not in names:
        named = ", ".join(others[:3]) or "no split.json"
        raise LesionError(
            f"{output}: is not a converted data set alone ({named}), so --overwrite will not "
            "delete it; give another folder"
        )


def _others(output: Path) -> set[str]:
    """Return what is in a converted data set beside the files that it lists itself."""
    listed = set()
    for path in (output / f"{split}.json" for split in SPLITS):
        if path.exists():
            content = read_json(path, "give another folder")
            with suppress(KeyError, TypeError):  # JSON of another shape lists nothing
                listed |= {record["file_name"] for record in content["images"]}
    images = output / "images"
    inside = walk_files(images) if images.is_dir() else ()
    found = {path.relative_to(output).as_posix() for path in (*output.iterdir(), *inside)}
    return {escape_name(name) for name in found - listed - _NAMES}


@contextmanager
def output_folder(output: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder beside ``output`` that takes its place when the block succeeds.

    If the block raises, the temporary folder is removed and ``output`` stays as it was. A process
    that is killed between the two renames leaves the earlier content as ``.<name>.replaced``; the
    next call puts it back.

    Raises:
        LesionError: if another process is at it, or ``output`` must not be replaced.
    """
    partial = output.with_name(f".{output.name}.partial")
    replaced = output.with_name(f".{output.name}.replaced")
    with alone(output):
        if replaced.exists() and not (output.exists() and any(output.iterdir())):
            replaced.rename(output)
        for left in (partial, replaced):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        _check_output(output, overwrite)
        try:
            (partial / "images").mkdir(parents=True)
            yield partial
            _check_output(output, overwrite)  # a file of the user may have come
            if output.exists():
                output.rename(replaced)
            try:
                partial.rename(output)
            except BaseException:
                if replaced.exists():
                    replaced.rename(output)
                raise
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_audit(path: Path, rows: Iterable[AuditRow]) -> None:
    """Write the rows, sorted, as CSV with a header line."""
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(AuditRow._fields)
        writer.writerows(sorted(rows))


def write_coco(path: Path, records: list[Record], info: dict[str, Any]) -> None:
    """Write records as a COCO instances file, in the order given."""
    content = {
        "info": info,
        "images": [record.image for record in records],
        "annotations": [record.annotation for record in records],
        "categories": [{"id": 1, "name": "lesion"}],
    }
    with atomic_write(path) as stream:
        json.dump(content, stream, separators=(",", ":"))
