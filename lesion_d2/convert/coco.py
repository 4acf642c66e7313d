"""Finding the images that a COCO file of another tool names."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lesion_d2.convert.pairs import (
    NAME_TOO_LONG,
    AuditRow,
    Pair,
    image_name,
    without_others,
)
from lesion_d2.convert.regions import Regions
from lesion_d2.convert.sources import Places, SourceFile, list_files
from lesion_d2.data.coco import has_room, is_size
from lesion_d2.errors import LesionError
from lesion_d2.files import escape_name, read_json

_REMEDY = "give a COCO file of instances: images, annotations, categories"


def find_drawn(
    coco: Path, images: Places, category: str | None
) -> tuple[list[Pair], list[AuditRow]]:
    """Return the images of a COCO file with the regions of one category.

    An image is found by its ``file_name`` below one of the folders or archives, or by the last part
    of that when no other file has it: tools write paths of their own before it.

    Args:
        coco: the file.
        images: folders and zip archives.
        category: its name; None for the only one.

    Returns:
        The pairs, sorted by id, and an audit row for each image or record that is in none.

    Raises:
        LesionError: if it is no such file, or the category is not clear.
    """
    content = read_json(coco, _REMEDY)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise LesionError(f"{coco}: has no lists of images, annotations and categories; {_REMEDY}")
    drawn, others = _by_image(coco, content, category)
    files, rows = without_others(list_files(images))
    records = _find_files(content["images"], files, coco.name, rows)
    names = Counter(image_name(file.bare).casefold() for file, _ in records)
    times = Counter(file.identity for file, _ in records)
    ids = Counter(record.get("id") for record in _records(content["images"]))
    source = SourceFile(coco.parent, PurePosixPath(coco.name))
    pairs = []
    for file, record in records:
        shared = names[image_name(file.bare).casefold()] > 1
        isic_id = image_name(file.bare, with_folders=shared)
        regions, other = drawn[record["id"]], others[record["id"]]
        if times[file.identity] > 1:
            reason, detail = "duplicate_id", "in the COCO file twice"
        elif ids[record["id"]] > 1:  # nobody knows whose the regions are
            reason, detail = "duplicate_id", "its id in the COCO file is of another record, too"
        elif not has_room(isic_id):
            reason, detail = NAME_TOO_LONG
        elif not regions:
            reason, detail = "image_without_mask", f"no region, {other} of other categories"
        else:
            size = record["height"], record["width"]
            pairs.append(Pair(isic_id, file, source, regions=Regions(*size, tuple(regions))))
            if other:
                detail = f"{other} regions of other categories are left out"
                rows.append(AuditRow(isic_id, file.name, "mask_other_category", "accepted", detail))
            continue
        rows.append(AuditRow(isic_id, file.name, reason, "excluded", detail))
    detail = "no record of the COCO file names it alone"
    rows += [
        AuditRow(image_name(file.bare), file.name, "image_without_mask", "excluded", detail)
        for file in files
        if file.identity not in times
    ]
    return sorted(pairs, key=lambda pair: pair.isic_id), rows


def _by_image(
    coco: Path, content: dict[str, Any], category: str | None
) -> tuple[dict[Any, list[dict[str, Any]]], Counter[Any]]:
    """Return the annotations of the category by image id, and how many others an image has."""
    names = {entry.get("id"): entry.get("name") for entry in _records(content["categories"])}
    ids = {number for number, name in names.items() if category in (None, name)}
    if (len(ids) != 1 and category is None) or not ids:
        known = ", ".join(sorted(map(repr, names.values())))
        raise LesionError(
            f"{coco}: its categories are {known or 'none'}; name the lesion's with --category"
        )
    drawn: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    others: Counter[Any] = Counter()
    for entry in _records(content["annotations"]):
        if entry.get("category_id") in ids:
            drawn[entry.get("image_id")].append(entry)
        else:
            others[entry.get("image_id")] += 1
    return drawn, others


def _records(entries: list[Any]) -> list[dict[str, Any]]:
    """Return the entries that can be looked up by their ids."""
    keys = ("id", "image_id", "category_id")
    return [
        entry
        for entry in entries
        if isinstance(entry, dict)
        and all(isinstance(entry.get(key), int | str | None) for key in keys)
    ]


def _find_files(
    images: list[Any], files: Sequence[SourceFile], coco: str, rows: list[AuditRow]
) -> list[tuple[SourceFile, dict[str, Any]]]:
    """Return the file of each image record; a record without one gets a row."""
    by_place = defaultdict(list)
    by_name = defaultdict(list)
    for file in files:
        by_place[str(file.place)].append(file)
        by_name[file.place.name].append(file)
    usable = [image for image in _records(images) if image.get("id") is not None]
    found = []
    for image in images:
        name = image.get("file_name") if isinstance(image, dict) else None
        size = (image.get("height"), image.get("width")) if name else (0, 0)
        if not isinstance(name, str) or not is_size(*size) or image not in usable:
            detail = f"not a record of file_name, height, width and id: {ascii(image)[:60]}"
            rows.append(AuditRow("", escape_name(coco), "coco_record", "excluded", detail))
            continue
        place = PurePosixPath(name.replace("\\", "/"))
        if len(there := by_place[str(place)] or by_name[place.name]) == 1:
            found.append((there[0], image))
            continue
        detail = f"{len(there)} files are called so"
        name = escape_name(ascii(name)[1:-1])
        rows.append(AuditRow("", name, "image_missing", "excluded", detail))
    return found
