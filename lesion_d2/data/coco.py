"""COCO JSON of lesions, every record checked before a library sees it.

Detectron2's loader and pycocotools take a file on trust: malformed run lengths and coordinates
crash or hang them, and other faults show when a training meets the record.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from pycocotools import mask as coco_mask

from lesion_d2.errors import LesionError
from lesion_d2.images.reading import MAX_PIXELS
from lesion_d2.images.run_lengths import check_rle

# ISIC numbers have seven digits: flipped copies get image ids above, and have no file of their own.
FLIP_ID_STEP = 10_000_000
_NAME_BYTES = 255  # the longest name of a file on usual file systems
# Annotation tools draw up to the border, and a little beyond.
_MARGIN = 1.0


def read_records(content: Any, root: Path) -> list[dict[str, Any]]:
    """Return the dataset dicts of a COCO file's content, by rising image id.

    The one category, of any name, is the lesion. File names are relative to ``root``.

    Returns:
        one dict an image with Detectron2's standard keys but ``bbox_mode``, and ``isic_id``: the
        record's own, else the file's stem, with its folders where others have this stem. Run
        lengths are compressed; boxes are those of the masks, x, y, width, height.

    Raises:
        LesionError: for the first record that cannot be right; it is named.
    """
    if not isinstance(content, dict):
        raise LesionError("is not a COCO file")
    categories = [category.get("id") for category in _dicts(content, "categories")]
    if len(categories) != 1:
        raise LesionError(f"has {len(categories)} categories; give one, the lesion")
    records: dict[int, dict[str, Any]] = {}
    images = list(_dicts(content, "images"))
    stems = Counter(PurePosixPath(str(image.get("file_name"))).stem for image in images)
    names = set()
    for image in images:
        record = _read_image(image, root, stems)
        if record["image_id"] in records:
            raise LesionError(f"image id {record['image_id']} is there twice")
        if record["isic_id"] in names:
            raise LesionError(f"two images are called {record['isic_id']}")
        names.add(record["isic_id"])
        records[record["image_id"]] = record
    for annotation in _dicts(content, "annotations"):
        image_id = annotation.get("image_id")
        if not _is_integer(image_id) or image_id not in records:
            raise LesionError(f"an annotation of image {image_id!r}, which is not there")
        category = annotation.get("category_id")
        if category != categories[0]:
            raise LesionError(f"an annotation of category {category!r}, which is not there")
        record = records[image_id]
        try:
            drawn, rle = read_segmentation(annotation, record["height"], record["width"])
        except LesionError as error:
            raise LesionError(f"{record['isic_id']}: {error}") from error
        lesion = {"segmentation": drawn, "bbox": coco_mask.toBbox(rle).tolist(), "category_id": 0}
        record["annotations"].append(lesion)
    return [records[image_id] for image_id in sorted(records)]


def _dicts(content: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list):
        raise LesionError(f"has no list of {key}")
    for entry in entries:
        if not isinstance(entry, dict):
            raise LesionError(f"{key}: {_short(entry)} is not a record")
        yield entry


def _read_image(image: dict[str, Any], root: Path, stems: Mapping[str, int]) -> dict[str, Any]:
    image_id = image.get("id")
    path = _inside("file_name", name := image.get("file_name"))
    plain = path.stem if stems[path.stem] == 1 else str(path.with_suffix(""))
    isic_id = image.get("isic_id", plain)
    _inside("isic_id", isic_id)
    if not has_room(isic_id):
        raise LesionError(f"{name}: isic_id {_short(isic_id)} is too long for the name of a mask")
    if not _is_integer(image_id) or not 0 <= image_id < FLIP_ID_STEP:
        raise LesionError(
            f"{name}: id {_short(image_id)} is not a whole number from 0 to {FLIP_ID_STEP - 1}"
        )
    height, width = image.get("height"), image.get("width")
    if not is_size(height, width):
        raise LesionError(f"{name}: height {_short(height)} and width {_short(width)} cannot be")
    return {
        "file_name": str(root / str(name)),
        "image_id": image_id,
        "isic_id": isic_id,
        "height": height,
        "width": width,
        "annotations": [],
    }


def has_room(isic_id: str) -> bool:
    """Say whether usual file systems take the name of a mask of this id."""
    name = f"{PurePosixPath(isic_id).name}_segmentation.png"
    return len(name.encode("utf-8", "surrogatepass")) <= _NAME_BYTES


def _inside(key: str, name: Any) -> PurePosixPath:
    """Return a name as a path below the folder of the data set."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise LesionError(f"{key} {_short(name)} is not a name")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.stem:
        raise LesionError(f"{key} {_short(name)} is outside the folder of the data set")
    return path


def read_segmentation(
    annotation: dict[str, Any], height: int, width: int
) -> tuple[list[list[float]] | dict[str, Any], dict[str, Any]]:
    """Return an annotation's polygons or compressed run lengths, and run lengths in any case.

    Raises:
        LesionError: if they cannot be right on an image of this size, or hold no pixel.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        segmentation = rle = _read_rle(segmentation, height, width)
    elif isinstance(segmentation, list) and segmentation:
        for polygon in segmentation:
            _check_polygon(polygon, height, width)
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    else:
        raise LesionError("an annotation without run lengths or polygons")
    if not coco_mask.area(rle):
        raise LesionError("an annotation without a pixel of lesion")
    return segmentation, rle


def _read_rle(rle: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return compressed run lengths that cover the image."""
    counts = rle.get("counts")
    rle = {"size": rle.get("size"), "counts": counts}
    if not isinstance(counts, list):
        check_rle(rle, height, width)
        return rle
    right = all(_is_integer(count) and count >= 0 for count in counts)
    if not right or sum(counts) != height * width or rle["size"] != [height, width]:
        raise LesionError("a mask with damaged run lengths")
    return coco_mask.frPyObjects(rle, height, width)


def _check_polygon(polygon: Any, height: int, width: int) -> None:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise LesionError("a polygon that is not a list of at least three x, y pairs")
    for values, side in ((polygon[::2], width), (polygon[1::2], height)):
        for value in values:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not -_MARGIN <= value <= side + _MARGIN:
                raise LesionError(f"a polygon with {_short(value)}, outside {width}x{height}")


def is_size(height: Any, width: Any) -> bool:
    """Say whether two values can be the sides of an image, in pixels."""
    whole = _is_integer(height) and _is_integer(width)
    return whole and min(height, width) >= 1 and height * width <= MAX_PIXELS


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = ascii(value)  # what was decoded wrongly cannot be printed
    return text if len(text) <= 60 else f"{text[:57]}..."
