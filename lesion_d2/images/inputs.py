"""Image files of a user: which there are."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lesion_d2.errors import LesionError
from lesion_d2.files import escape_name, walk_files
from lesion_d2.images.source import SUFFIXES

SETTINGS = "settings.json"  # in a folder of predictions
_REMEDY = "give image files, a folder of them, or a pattern in quotes"


@dataclass(frozen=True)
class ImageFile:
    """An image file of a user.

    Attributes:
        path: where it is, by its name as it was given: its input is without links.
        name: what its results are called: its path below the deepest folder that holds all inputs,
            without the suffix where no other image there differs in just this.
    """

    path: Path
    name: str


def find_images(inputs: Sequence[str], output: Path | None = None) -> list[ImageFile]:
    """Return the image files that are meant, each once, sorted by name.

    Args:
        inputs: files, folders (searched with all below them, linked folders too, for files with
            the suffix of an image) and patterns such as ``photos/*.jpg``. Names that begin with a
            dot and masks named ``*_segmentation.*`` are left out, and folders of predictions, which
            standard error names. A folder below that cannot be read counts as a file.
        output: a folder that is not searched.

    Raises:
        LesionError: if one of the inputs gives no file.
    """
    found: dict[str, Path] = {}
    tops = []
    skipped = None if output is None else os.path.realpath(output)

    @cache  # named once
    def enter(folder: Path) -> bool:
        if folder.name.startswith(".") or os.path.realpath(folder) == skipped:
            return False
        if folder_settings(folder) is None:
            return True
        print(f"not searched: {escape_name(folder)}: it holds predictions", file=sys.stderr)
        return False

    for text in inputs:
        top, files = _find(text, enter)
        tops.append(Path(os.path.realpath(top)))
        paths = {os.path.realpath(file): tops[-1] / file.relative_to(top) for file in files[::-1]}
        if skipped is not None:
            paths = {p: file for p, file in paths.items() if not Path(p).is_relative_to(skipped)}
        if not paths:
            raise LesionError(f"--input: {text}: no image there; {_REMEDY}")
        found = paths | found
    common = os.path.commonpath(tops)
    names = {path: file.relative_to(common) for path, file in found.items()}
    stems = {path: str(name.with_suffix("")) for path, name in names.items()}
    same = Counter(stem.casefold() for stem in stems.values())
    images = [
        ImageFile(found[path], stem if same[stem.casefold()] == 1 else str(names[path]))
        for path, stem in stems.items()
    ]
    return sorted(images, key=lambda image: (image.name, image.path))


def folder_settings(folder: Path) -> dict[str, Any] | None:
    """Return the settings of a folder of predictions; None if it is another folder."""
    path = folder / SETTINGS
    with suppress(OSError, ValueError, RecursionError):  # missing, not JSON
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if isinstance(content, dict) and "weights_sha256" in content:
            return content
    return None


def _find(text: str, enter: Callable[[Path], bool]) -> tuple[Path, list[Path]]:
    """Return the folder that an input is about, and the files that are meant."""
    if not text:
        raise LesionError(f"--input: an empty name; {_REMEDY}")
    path = Path(text)
    if _is_folder(path):
        unreadable: list[Path] = []
        files = list(filter(_is_image, walk_files(path, enter, unreadable.append)))
        return path, files + unreadable
    if os.path.lexists(path):
        return path.parent, [path]
    # What exists of a pattern is no pattern: a folder may be called "scans [2023]".
    top = next(folder for folder in path.parents if _is_folder(folder))
    try:
        files = sorted(top.glob(str(path.relative_to(top))))
    except (NotImplementedError, ValueError) as error:
        raise LesionError(f"--input: {text}: not a pattern ({error})") from error
    return top, [
        file
        for file in filter(_is_image, files)
        if all(enter(top / folder) for folder in [*file.relative_to(top).parents][-2::-1])
        and not _is_folder(file)
    ]


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 Path's raises where a folder above is closed


def _is_image(path: Path) -> bool:
    return (
        path.suffix.lower() in SUFFIXES
        and not path.stem.endswith("_segmentation")
        and not path.name.startswith(".")
    )
