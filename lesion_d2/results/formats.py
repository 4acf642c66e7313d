"""A folder of predictions in the formats of other tools: COCO, labelme, GeoJSON.

Every file is made from the folder's own record: a row of its table, the mask that this names, and
the settings, which hold the model's hash. Coordinates are pixels of the picture as it is to be
seen, as in :mod:`lesion_d2.images.polygons`.
"""

import base64
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

import lesion_d2
from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write, read_json, read_whole_rows, unescape_name
from lesion_d2.images.masks import read_mask
from lesion_d2.images.polygons import Polygon, mask_polygons
from lesion_d2.images.reading import read_header
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.images.source import BadFileError, read_source
from lesion_d2.parallel import progress_bar
from lesion_d2.results.predictions import PredictionFolder, Row, holds, name_of

_LABEL, _COLOUR = "lesion", [255, 255, 0]
_LABELME_VERSION = "5.5.0"  # labelme's own: what it reads since then
_REMEDY = "predict into another folder, or --overwrite"


def write_formats(folder: PredictionFolder, formats: Iterable[str]) -> None:
    """Write what is missing of some of :data:`~lesion_d2.results.predictions.FORMATS`.

    The masks are there already. Formats that the folder holds from an earlier call are kept up to
    date, too. Of labelme and GeoJSON, a file that is there stays as it is: it may have been edited.

    Raises:
        LesionError: if a mask is not readable, or not of its image's size, or a score no number.
    """
    wanted = {*formats, *folder.formats} - {"masks"}
    if not wanted:
        return
    model = _model(folder)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in progress_bar(folder.rows(), "writing formats"):
        name = str(name_of(row))
        mask = _read_mask(folder.mask(name), row)
        scores = _scores(folder, row)
        missing = [path for path in folder.editable(name, wanted) if not path.exists()]
        for path, data in _editable_contents(missing, row, mask, {**model, **scores}).items():
            with atomic_write(path, "wb") as stream:
                stream.write(data)
        if "coco" in wanted:
            number = len(images) + 1
            images.append(coco_image(mask, whole_name(unescape_name(row["file"]), name), number))
            if mask.any():
                annotations.append(coco_annotation(mask, number, scores))
    if "coco" in wanted:
        with atomic_write(folder.coco, "wb") as stream:
            stream.write(_json(coco_content(images, annotations, model)))


def unedited(folder: PredictionFolder, row: Row) -> list[Path]:
    """Return the labelme and GeoJSON files of a row that hold what is written for it."""
    name = str(name_of(row))
    paths = [path for path in folder.editable(name) if path.is_file()]
    if not paths:
        return []
    try:
        mask = _read_mask(folder.mask(name), row)
        record = {**_model(folder), **_scores(folder, row)}
        contents = _editable_contents(paths, row, mask, record)
    except LesionError:  # the mask is missing or was changed, or the row was
        return []
    return [path for path, data in contents.items() if holds(path, data)]


def _model(folder: PredictionFolder) -> dict[str, Any]:
    return {"version": lesion_d2.__version__, **read_json(folder.settings, _REMEDY)}


def _scores(folder: PredictionFolder, row: Row) -> dict[str, float]:
    found = {key: read_score(folder, row, key) for key in ("score", "estimated_iou")}
    return {key: score for key, score in found.items() if score is not None}


def _editable_contents(
    paths: Sequence[Path], row: Row, mask: npt.NDArray[np.bool_], record: dict[str, Any]
) -> dict[Path, bytes]:
    """Return what is written into labelme and GeoJSON files of a row."""
    polygons = mask_polygons(mask) if paths else []
    contents = {}
    for path in paths:
        if path.suffix == ".geojson":
            contents[path] = _json(_geojson(polygons, record))
        else:
            image = os.path.relpath(unescape_name(row["file"]), os.path.realpath(path.parent))
            contents[path] = _json(labelme_content(mask, polygons, image, record))
    return contents


def read_score(folder: PredictionFolder, row: Row, column: str) -> float | None:
    """Return a score of a row of one of the folder's tables, in [0, 1]; None where it has none.

    Raises:
        LesionError: another program has written it so that it is not such a number.
    """
    text = row[column]
    if not text:
        return None
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    table = next((t for t in folder.tables if row in read_whole_rows(t)), folder.table)
    raise LesionError(
        f"{table}: {column} of {row['file']} is {text!r}, not a number from 0 to 1; write it with "
        "a point, as 0.5"
    )


def whole_name(path: str, name: str) -> str:
    """Return what the image at ``path`` is called with the suffix that its ``name`` may lack."""
    return name if f"/{path}".endswith(f"/{name}") else name + Path(path).suffix


def coco_content(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], model: dict[str, Any]
) -> dict[str, Any]:
    """Return a COCO file of what :func:`coco_image` and :func:`coco_annotation` return."""
    return {
        "info": {"description": "predictions of lesion_d2", **model},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": _LABEL}],
    }


def coco_image(mask: npt.NDArray[np.bool_], file_name: str, number: int) -> dict[str, Any]:
    """Return an image's record of COCO; ``number`` is its id, from 1 on."""
    return {"id": number, "file_name": file_name, "height": mask.shape[0], "width": mask.shape[1]}


def coco_annotation(
    mask: npt.NDArray[np.bool_], number: int, scores: dict[str, float]
) -> dict[str, Any]:
    """Return the lesion as run lengths: polygons of COCO have no holes."""
    rle = encode_mask(mask)
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
        "area": int(coco_mask.area(rle)),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "iscrowd": 0,
        **scores,
    }


def labelme_content(
    mask: npt.NDArray[np.bool_],
    polygons: Sequence[Polygon],
    image: str,
    record: dict[str, Any],
) -> dict[str, Any]:
    """Return labelme's file of an image, whose path as seen from there is ``image``.

    It holds polygons, or, where there is a hole, which those of labelme cannot have, a mask.
    """
    if any(polygon.holes for polygon in polygons):
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        part = mask[top : top + height, left : left + width]
        _, png = cv2.imencode(".png", part.view(np.uint8) * np.uint8(255))
        corners = [[left, top], [left + width - 1, top + height - 1]]
        data = base64.b64encode(png.tobytes()).decode("ascii")
        shapes = [{"shape_type": "mask", "points": corners, "mask": data}]
    else:
        rings = [polygon.exterior.tolist() for polygon in polygons]
        shapes = [{"shape_type": "polygon", "points": ring} for ring in rings]
    # Shapes of one group are one object.
    common: dict[str, Any] = {
        "label": _LABEL,
        "group_id": 1 if len(shapes) > 1 else None,
        "flags": {},
    }
    return {
        "version": _LABELME_VERSION,
        "flags": {},
        "shapes": [{**common, "description": "", **shape} for shape in shapes],
        "imagePath": image,
        "imageData": None,
        "imageHeight": mask.shape[0],
        "imageWidth": mask.shape[1],
        "lesion_d2": record,
    }


def _geojson(polygons: Sequence[Polygon], record: dict[str, Any]) -> dict[str, Any]:
    """Return one feature, with the properties that QuPath reads; none without a polygon."""
    parts = [
        [[*ring.tolist(), ring[0].tolist()] for ring in (polygon.exterior, *polygon.holes)]
        for polygon in polygons
    ]
    properties = {
        "objectType": "annotation",
        "classification": {"name": _LABEL, "color": _COLOUR},
    }
    geometry = (
        {"type": "Polygon", "coordinates": parts[0]}
        if len(parts) == 1
        else {"type": "MultiPolygon", "coordinates": parts}
    )
    feature = {"type": "Feature", "geometry": geometry, "properties": properties}
    return {
        "type": "FeatureCollection",
        "features": [feature] if parts else [],
        "lesion_d2": record,
    }


def _read_mask(path: Path, row: Row) -> npt.NDArray[np.bool_]:
    try:
        data = read_source(path)
        mask = read_mask(data, read_header(data), 128, lambda *_: None)
        if [row["height"], row["width"]] != [str(side) for side in mask.shape]:
            raise BadFileError("size_differs", f"not of {row['width']}x{row['height']} pixels")
    except BadFileError as error:
        raise LesionError(
            f"{path}: not a mask of its image ({error}); delete it, and it is made again"
        ) from error
    return mask


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content) + "\n").encode()
