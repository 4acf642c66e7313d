"""The folder that a conversion creates: whole or not at all."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lesion_d2.convert.pair import Record
from lesion_d2.data.converted import SPLITS
from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write

_NAMES = {"images", "split.json", "audit.csv", *(f"{split}.json" for split in SPLITS)}


def check_output(output: Path, overwrite: bool) -> None:
    """Make sure that a conversion may write to ``output``.

    Raises:
        LesionError: if it is a file, or a folder with content that may not be replaced: without
            ``overwrite`` any, with it anything but a converted data set and nothing else.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise LesionError(f"{output}: is a file; give a folder that is empty or does not exist")
    names = {path.name for path in output.iterdir()}
    if not names:
        return
    if not overwrite:
        raise LesionError(
            f"{output}: is not empty; give another folder, "
            "or --overwrite to replace a converted data set"
        )
    if "split.json" not in names or names - _NAMES:
        other = ", ".join(sorted(names - _NAMES)[:3]) or "no split.json"
        raise LesionError(
            f"{output}: is not a converted data set alone ({other}), so --overwrite will not "
            "delete it; give another folder"
        )


@contextmanager
def output_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``output`` that takes its place when the block succeeds.

    If the block raises, the temporary folder is removed and ``output`` stays as it was.
    """
    partial = output.with_name(f".{output.name}.partial")
    replaced = output.with_name(f".{output.name}.replaced")
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    try:
        (partial / "images").mkdir(parents=True)
        yield partial
        if output.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            output.rename(replaced)
        partial.rename(output)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
