"""Finding the pairs of image and mask in folders and archives, and what is said of a file."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from lesion_d2.convert.regions import Regions
from lesion_d2.convert.sources import Places, SourceFile, list_files
from lesion_d2.data.coco import has_room
from lesion_d2.files import escape_name
from lesion_d2.images.source import SUFFIXES

# What the name of a mask has beyond that of its image.
MASK_SUFFIXES = (
    "_segmentation", "_lesion", "_mask", "_label", "_labels", "_seg", "_gt", "_groundtruth",
    "_ground_truth", "_annotation", "_contour",
)  # fmt: skip
_ISIC = re.compile(r"(ISIC_[0-9]{7})(?![0-9])(.*)", re.IGNORECASE | re.DOTALL)
_ISIC_IMAGES = ("", "_downsampled")  # the latter in 2019
_ARCHIVE_TEXTS = {"attribution.txt", "license.txt"}
NAME_TOO_LONG = ("name_too_long", "with _segmentation.png no name of a file")


Action = Literal["accepted", "excluded", "ignored"]


class AuditRow(NamedTuple):
    """One line of ``audit.csv``: an image or mask that is not half of a perfect pair.

    Attributes:
        isic_id: the id, or an empty string for a file that is no part of the data set.
        file: its path relative to the folder or archive that was given, escaped.
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
class Pair:
    """One image with its mask, or with the regions that another tool drew.

    Attributes:
        isic_id: of an image of ISIC ``ISIC_`` and seven digits, else the name without its suffix,
            with its folders where several images have this name. Escaped, as in a table.
        image: the file.
        mask: of the lesion, or the COCO file that has it.
        number: the image's id in COCO files.
        regions: the lesion, of a COCO file.
    """

    isic_id: str
    image: SourceFile
    mask: SourceFile
    number: int = 0
    regions: Regions | None = None


class _Named:
    """A file by its name.

    Attributes:
        file: it.
        of_isic: whether it is called as a file of ISIC.
        place: as an image, without the suffixes of files and of images.
        key: as an image, its name without regard to case; None if it cannot be one.
        base: as a mask, the key of its image by a suffix such as ``_mask``; None without.
    """

    def __init__(self, file: SourceFile, mask_suffixes: Sequence[str], image_suffix: str) -> None:
        self.file, stem = file, file.place.stem
        ends = [suffix for suffix in mask_suffixes if stem.casefold().endswith(suffix)]
        base = stem[: -len(max(ends, key=len))] if ends else ""
        if image_suffix and stem.casefold().endswith(image_suffix):
            stem = stem[: -len(image_suffix)] or stem
        self.place = file.place.with_name(stem)
        match = _ISIC.fullmatch(stem)
        self.of_isic = match is not None
        rest = match[2].casefold() if match else ""
        self.key = (match[1] if match else stem).casefold() if rest in _ISIC_IMAGES else None
        if match and rest not in mask_suffixes:
            base = ""
        self.base = base.casefold() or None
        self._of = image_name(self.place) if match or not base else escape_name(base)

    def row(self, reason: str, action: Action, detail: str = "") -> AuditRow:
        """Return a row about this file; one that is ignored has no id."""
        isic_id = self._of if reason.startswith(("mask", "dup")) else image_name(self.place)
        if action == "ignored":
            isic_id = ""
        return AuditRow(isic_id, self.file.name, reason, action, detail)


def image_name(place: PurePosixPath, *, with_folders: bool = False) -> str:
    """Return the id of an image: ISIC's, else its name, with the folders where others have it.

    ``place`` is where the file lies, without its suffix.
    """
    if match := _ISIC.fullmatch(place.name):
        return match[1].upper()
    return escape_name(str(place) if with_folders else place.name)


def is_isic(isic_id: str) -> bool:
    """Say whether an id is one of ISIC: ``ISIC_`` and seven digits."""
    return bool((match := _ISIC.fullmatch(isic_id)) and not match[2])


def image_numbers(ids: Sequence[str]) -> dict[str, int]:
    """Return the number of each image in COCO files: ISIC's; 1, 2, ... if one has another name."""
    if all(map(is_isic, ids)):
        return {isic_id: int(isic_id.removeprefix("ISIC_")) for isic_id in ids}
    return {isic_id: number for number, isic_id in enumerate(sorted(ids), 1)}


def find_pairs(
    images: Places,
    masks: Places,
    mask_suffixes: Sequence[str] = MASK_SUFFIXES,
    image_suffix: str = "",
) -> tuple[list[Pair], list[AuditRow]]:
    """Pair images and masks of folders and zip archives by their names, without regard to case.

    A mask is called as its image, or has a suffix beyond that; of the image's name
    ``image_suffix`` is left out, where it is there. A file may be among both images and
    masks. Names of ISIC are read as ISIC writes them, and an id of theirs belongs to one image. Any
    other name that several images have is paired by the folders that the files lie in.

    Returns:
        The pairs, sorted by id, and an audit row for each file that is in none.

    Raises:
        LesionError: if a folder or archive cannot be read.
    """
    of_images, of_masks = list_files(images), list_files(masks)
    unique = {file.identity: file for file in of_masks + of_images}
    files, rows = without_others(unique.values())
    suffixes = [suffix.casefold() for suffix in mask_suffixes]
    named: dict[tuple, _Named] = {}
    for file in files:
        item = _Named(file, suffixes, image_suffix.casefold())
        if item.key or item.base:
            named[file.identity] = item
        else:
            rows.append(item.row("not_isic_name", "ignored"))
    pictures = [named[file.identity] for file in of_images if file.identity in named]
    drawings = [named[file.identity] for file in of_masks if file.identity in named]
    image_of, mask_of, others = _tell_apart(pictures, drawings)
    rows += others

    pairs: list[Pair] = []
    left: list[tuple[_Named, str, str]] = []
    for key in sorted(image_of.keys() | mask_of.keys()):
        found, unpaired = _pair_up(image_of.get(key, []), mask_of.get(key, []))
        pairs += found
        left += unpaired
    paired = {named[pair.image.identity].key for pair in pairs}
    both = set(pictures) & set(drawings)
    for item, reason, detail in left:
        key = item.key or ""
        whose = paired & {key[: match.start()] for match in re.finditer("_", key)}
        if reason == "image_without_mask" and item in both and whose:
            detail = f"beside the pair {whose.pop()}"
            rows.append(item.row("no_part_of_a_pair", "ignored", detail))
        else:
            rows.append(item.row(reason, "excluded", detail))
    return sorted(pairs, key=lambda pair: pair.isic_id), rows


def without_others(files: Iterable[SourceFile]) -> tuple[list[SourceFile], list[AuditRow]]:
    """Return the files that are called as images, and rows for the others."""
    found, rows = [], []
    for file in files:
        hidden = any(part.startswith(".") for part in file.place.parts)
        if file.place.is_absolute() or ".." in file.place.parts:
            detail = "leads out of the archive"
            rows.append(AuditRow("", file.name, "unsafe_path", "ignored", detail))
        elif file.place.suffix.lower() in SUFFIXES and not hidden:
            found.append(file)
        elif file.place.name.lower() not in _ARCHIVE_TEXTS:
            rows.append(AuditRow("", file.name, "not_an_image", "ignored"))
    return found, rows


def _tell_apart(
    of_images: Sequence[_Named], of_masks: Sequence[_Named]
) -> tuple[dict[str, list[_Named]], dict[str, list[_Named]], list[AuditRow]]:
    """Return images and masks by the key that a pair has in common, and rows for the others."""
    pictures = _by(of_images, lambda item: item.key)
    inside = set(of_masks)
    matched: dict[_Named, str] = {}
    ambiguous = []
    for mask in of_masks:
        by_suffix = any(item is not mask for item in pictures.get(mask.base or "", []))
        by_name = any(item not in inside for item in pictures.get(mask.key or "", []))
        if by_suffix and by_name:
            ambiguous.append(mask)
        elif by_suffix and mask.base:
            matched[mask] = mask.base
        elif by_name and mask.key:
            matched[mask] = mask.key
    with_mask = set(matched.values())

    def is_image(item: _Named) -> bool:
        # "left_lesion" is no mask of "left" where it has a mask itself.
        plain = item not in inside or not item.base or item.key in with_mask
        return item.key is not None and item not in matched and plain

    images = [item for item in of_images if is_image(item)]
    taken = {*images, *ambiguous}
    masks = [item for item in of_masks if item not in taken]
    image_of = _by(images, lambda item: item.key)
    mask_of = _by(masks, lambda item: matched.get(item) or item.base or item.key)
    others = [item for item in of_images if item not in taken and item not in inside]
    for key, found in mask_of.items():
        suffixed = {item.file.place.parent for item in found if item.base == key}
        copies = [i for i in found if i.base != key and i.file.place.parent in suffixed]
        others += copies
        mask_of[key] = [item for item in found if item not in copies]
    what = "a mask among the images", "an image among the masks"
    rows = [item.row("no_part_of_a_pair", "ignored", what[item in inside]) for item in others]
    rows += [
        item.row("mask_of_two_images", "excluded", f"may be of {item.base} or of {item.key}")
        for item in ambiguous
    ]
    return image_of, mask_of, rows


def _by(items: Iterable[_Named], key: Callable[[_Named], str | None]) -> dict[str, list[_Named]]:
    groups = defaultdict(list)
    for item in items:
        if name := key(item):
            groups[name].append(item)
    return dict(groups)


def _pair_up(
    images: list[_Named], masks: list[_Named]
) -> tuple[list[Pair], list[tuple[_Named, str, str]]]:
    """Pair images and masks of one name; return those left, each with reason and detail."""
    if not masks and (len(images) == 1 or not images[0].of_isic):
        return [], [(image, "image_without_mask", "") for image in images]
    if not images and (len(masks) == 1 or not masks[0].of_isic):
        return [], [(mask, "mask_without_image", "") for mask in masks]
    partners: list[tuple[_Named, _Named]] = []
    if len(images) == len(masks) == 1:
        partners = [(images[0], masks[0])]
    elif not any(item.of_isic for item in images):
        partners = [
            (image, mask)
            for image in images
            if (mask := _nearest(image, masks)) and _nearest(mask, images) is image
        ]
    pairs, left = [], []
    for image, mask in partners:
        isic_id = image_name(image.place, with_folders=len(images) > 1)
        if has_room(isic_id):
            pairs.append(Pair(isic_id, image.file, mask.file))
        else:
            left.append((image, *NAME_TOO_LONG))
    found = {item for pair in partners for item in pair}
    detail = f"{len(images)} images and {len(masks)} masks have this id"
    left += [(item, "duplicate_id", detail) for item in images + masks if item not in found]
    return pairs, left


def _nearest(item: _Named, others: list[_Named]) -> _Named | None:
    """Return the one of others that shares most of the folders above; None without such."""
    folders = item.file.place.parent.parts

    def shared(other: _Named) -> float:
        theirs = other.file.place.parent.parts
        together = takewhile(lambda two: two[0] == two[1], zip(theirs, folders, strict=False))
        return math.inf if theirs == folders else len(list(together))

    best = max(others, key=shared)
    unique = [shared(other) for other in others].count(shared(best)) == 1
    return best if unique and shared(best) else None
