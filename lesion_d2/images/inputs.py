"""Image files of a user: which there are."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lesion_d2.errors import LesionError
from lesion_d2.files import walk_files
from lesion_d2.images.source import SUFFIXES


@dataclass(frozen=True)
class ImageFile:
    """An image file of a user.

    Attributes:
        path: where it is, without links.
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
            dot and masks named ``*_segmentation.*`` are left out.
        output: a folder that is not searched.

    Raises:
        LesionError: if one of the inputs gives no file.
    """
    found: dict[str, Path] = {}
    tops = []
    for text in inputs:
        top, files = _find(text)
        tops.append(Path(os.path.realpath(top)))
        paths = {os.path.realpath(file): tops[-1] / file.relative_to(top) for file in files[::-1]}
        if output is not None:
            skipped = os.path.realpath(output)
            paths = {p: file for p, file in paths.items() if not Path(p).is_relative_to(skipped)}
        if not paths:
            raise LesionError(
                f"--input: {text}: no image there; give image files, a folder of them, or a "
                "pattern in quotes"
            )
        found = paths | found
    common = os.path.commonpath(tops)
    names = {path: file.relative_to(common) for path, file in found.items()}
    stems = {path: str(name.with_suffix("")) for path, name in names.items()}
    same = Counter(stem.casefold() for stem in stems.values())
    images = [
        ImageFile(Path(path), stem if same[stem.casefold()] == 1 else str(names[path]))
        for path, stem in stems.items()
    ]
    return sorted(images, key=lambda image: (image.name, image.path))


def _find(text: str) -> tuple[Path, list[Path]]:
    """Return the folder that an input is about, and the files that are meant."""
    path = Path(text)
    if path.is_dir():
        return path, [file for file in walk_files(path) if _is_image(file.relative_to(path))]
    if os.path.lexists(path):
        return path.parent, [path]
    # What exists of a pattern is no pattern: a folder may be called "scans [2023]".
    top = next(folder for folder in path.parents if folder.is_dir())
    try:
        files = sorted(top.glob(str(path.relative_to(top))))
    except (NotImplementedError, ValueError) as error:
        raise LesionError(f"--input: {text}: not a pattern ({error})") from error
    return top, [f for f in files if _is_image(f.relative_to(top)) and not f.is_dir()]


def _is_image(name: Path) -> bool:
    return (
        name.suffix.lower() in SUFFIXES
        and not name.stem.endswith("_segmentation")
        and not any(part.startswith(".") for part in name.parts)
    )
