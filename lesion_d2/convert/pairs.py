"""Finding the pairs of image and mask in the folders of an archive, and what is said of a file."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from lesion_d2.files import escape_name, walk_files
from lesion_d2.images.source import SUFFIXES

_SUFFIX = "|".join(re.escape(suffix) for suffix in SUFFIXES)
_IMAGE_NAME = re.compile(rf"(ISIC_[0-9]{{7}})(?:{_SUFFIX})", re.IGNORECASE)
_MASK_NAME = re.compile(rf"(ISIC_[0-9]{{7}})_segmentation(?:{_SUFFIX})", re.IGNORECASE)
_ARCHIVE_TEXTS = {"attribution.txt", "license.txt"}


Action = Literal["accepted", "excluded", "ignored"]


class AuditRow(NamedTuple):
    """One line of ``audit.csv``: an image or mask that is not half of a perfect pair.

    Attributes:
        isic_id: the id, or an empty string for a file whose name is not an ISIC name.
        file: see :class:`SourceFile`.
        reason: a short constant, listed in ``docs/bad_input.md``.
        action: ``accepted`` (used, worth knowing), ``excluded`` (a pair was lost)
            or ``ignored`` (the file is no part of the data set).
        detail: what was seen, in words.
    """

    isic_id: str
    file: str
    reason: str
    action: Action
    detail: str = ""


@dataclass(frozen=True)
class SourceFile:
    """A file of the archive; its name is the path relative to the input folder, escaped."""

    path: Path
    name: str


@dataclass(frozen=True)
class Pair:
    """One image with its mask."""

    isic_id: str
    image: SourceFile
    mask: SourceFile


def find_pairs(images: Path, masks: Path) -> tuple[list[Pair], list[AuditRow]]:
    """Pair the files of two folders, searched with all below them, by the id in their names.

    Names are ``ISIC_<7 digits>.jpg`` and ``ISIC_<7 digits>_segmentation.png``, or have another
    suffix of an image, in any case. Both folders may be the same one: a mask among the images (or
    the other way round) is skipped.

    Returns:
        The pairs, sorted by id, and an audit row for each file that is in none.

    Raises:
        LesionError: if one of the folders cannot be read.
    """
    image_files, rows = _by_id(images, _IMAGE_NAME, _MASK_NAME)
    mask_files, mask_rows = _by_id(masks, _MASK_NAME, _IMAGE_NAME)
    if images.resolve() != masks.resolve():
        rows += mask_rows

    pairs = []
    for isic_id in sorted(image_files.keys() | mask_files.keys()):
        of_images, of_masks = image_files.get(isic_id, []), mask_files.get(isic_id, [])
        if len(of_images) > 1 or len(of_masks) > 1:
            detail = f"{len(of_images)} images and {len(of_masks)} masks have this id"
            rows += [
                AuditRow(isic_id, file.name, "duplicate_id", "excluded", detail)
                for file in of_images + of_masks
            ]
        elif not of_masks:
            rows.append(AuditRow(isic_id, of_images[0].name, "image_without_mask", "excluded"))
        elif not of_images:
            rows.append(AuditRow(isic_id, of_masks[0].name, "mask_without_image", "excluded"))
        else:
            pairs.append(Pair(isic_id, of_images[0], of_masks[0]))
    return pairs, rows


def _by_id(
    folder: Path, wanted: re.Pattern[str], skipped: re.Pattern[str]
) -> tuple[dict[str, list[SourceFile]], list[AuditRow]]:
    """Return the files whose name matches ``wanted`` by id, and a row for each unknown file."""
    found: dict[str, list[SourceFile]] = defaultdict(list)
    rows = []
    for path in walk_files(folder):
        name = escape_name(path.relative_to(folder))
        if match := wanted.fullmatch(path.name):
            found[match[1].upper()].append(SourceFile(path, name))
        elif not skipped.fullmatch(path.name) and path.name.lower() not in _ARCHIVE_TEXTS:
            rows.append(AuditRow("", name, "not_isic_name", "ignored"))
    return found, rows
