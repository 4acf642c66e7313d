"""An evaluation folder, written and read: the one place that knows its files."""

import csv
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lesion_d2.data.coco import FLIP_ID_STEP
from lesion_d2.data.converted import LesionImage, read_split
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.metrics import METRICS
from lesion_d2.evaluation.scores import (
    COLUMNS,
    ESTIMATE,
    WHOLE_NUMBERS,
    Evaluation,
    ScoredImage,
)
from lesion_d2.files import atomic_write, check_columns, read_json, write_csv, write_json
from lesion_d2.images.masks import read_mask
from lesion_d2.images.reading import read_header
from lesion_d2.images.source import BadFileError, read_source

SUMMARY, TABLE, INSTANCES = "metrics.json", "per_image.csv", "predictions.json"
SUBMISSION, TRUTH = "submission", "truth"
REPORT, BOXPLOT = "report.html", "boxplot.png"
PREDICTIONS_FIGURE = "predictions_{}.png"

REMEDY = "write the folder with tools/eval.py"
SUMMARY_KEYS = (
    *("dataset", "score_threshold", "mean_max_iou", "mean_max_iou_low", "mean_max_iou_high"),
)


def mask_name(isic_id: str) -> str:
    """Return the name of an image's mask, as the challenge wants it."""
    return f"{isic_id}_segmentation.png"


def write_evaluation(folder: Path, summary: dict[str, Any], images: Sequence[ScoredImage]) -> None:
    """Write an evaluation; what an earlier one left in the folder, and only that, is removed first.

    ``summary`` becomes ``metrics.json``, written last: without it the folder holds no evaluation.
    """
    (folder / SUMMARY).unlink(missing_ok=True)
    masks = (f"{part}/**/{mask_name('*')}" for part in (SUBMISSION, TRUTH))
    for pattern in (*masks, REPORT, BOXPLOT, PREDICTIONS_FIGURE.format("*")):
        for path in folder.glob(pattern):
            path.unlink()
    write_csv(folder / TABLE, COLUMNS, [image.row for image in images])
    for image in images:
        for part, png in zip((SUBMISSION, TRUTH), image.masks, strict=False):
            with atomic_write(folder / part / mask_name(image.row["isic_id"]), "wb") as stream:
                stream.write(png)
    instances = [instance for image in images for instance in image.instances]
    with atomic_write(folder / INSTANCES) as stream:
        stream.write(json.dumps(instances))  # json.dump takes ten times as long
    write_json(folder / SUMMARY, summary)


def find_evaluations(folder: Path) -> list[Path]:
    """Return the evaluation folder that ``folder`` is, or all of a run's, at least one."""
    if (folder / TABLE).is_file():
        return [folder]
    if found := sorted(path.parent for path in folder.glob(f"eval/*/{TABLE}")):
        return found
    raise LesionError(f"{folder}: holds no evaluation ({TABLE}); {REMEDY}")


def find_evaluation(folder: Path) -> Path:
    """Return the evaluation folder that ``folder`` is, or the only one of a run's."""
    found = find_evaluations(folder)
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise LesionError(f"{folder}: holds {len(found)} evaluations; name one of {names}")
    return found[0]


def read_evaluation(
    eval_dir: Path, keys: Iterable[str] = SUMMARY_KEYS, columns: Iterable[str] = ("max_iou",)
) -> Evaluation:
    """Return ``metrics.json`` and the columns of ``per_image.csv``.

    ``keys`` have to be in the one, ``columns`` and ``image_id`` in the other; more are read where
    they are there.

    Raises:
        LesionError: a file is missing, broken or empty, or the two do not fit each other.
    """
    summary = read_json(eval_dir / SUMMARY, REMEDY)
    if not isinstance(summary, dict):
        raise LesionError(f"{eval_dir / SUMMARY}: not a JSON object; {REMEDY}")
    if "fingerprint" in summary:  # its name in earlier files
        summary["input_fingerprint"] = summary.pop("fingerprint")
    for key in keys:
        if key not in summary:
            raise LesionError(f"{eval_dir / SUMMARY}: lacks the key '{key}'; {REMEDY}")
    table = _read_table(eval_dir / TABLE, columns)
    rows = len(table["image_id"])
    if summary.get("num_images", rows) != rows:
        raise LesionError(
            f"{eval_dir / TABLE}: holds {rows} images, {SUMMARY} says {summary['num_images']}; "
            f"{REMEDY}"
        )
    return Evaluation(eval_dir, summary, table)


def read_predictions(eval_dir: Path) -> dict[int, list[dict[str, Any]]]:
    """Return the COCO results of ``predictions.json`` by image id."""
    path = eval_dir / INSTANCES
    by_image: dict[int, list[dict[str, Any]]] = {}
    for instance in read_json(path, REMEDY):
        for key in ("image_id", "segmentation", "score", "iou"):
            if key not in instance:
                raise LesionError(f"{path}: an instance lacks the key '{key}'; {REMEDY}")
        by_image.setdefault(instance["image_id"], []).append(instance)
    return by_image


def find_dataset(eval_dir: Path) -> Path:
    """Return the folder that the evaluated data set is registered with."""
    name = str(read_evaluation(eval_dir).summary["dataset"])
    folder = Path(os.getenv("DETECTRON2_DATASETS", "datasets"), name.rpartition("_")[0])
    if not folder.is_dir():
        raise LesionError(f"{folder}: data set of {eval_dir} not found; name it with --dataset DIR")
    return folder


def evaluated_lesions(evaluation: Evaluation, dataset_dir: Path) -> dict[int, LesionImage]:
    """Return the images of the evaluated split by id.

    The image of a flipped copy is at its id modulo :data:`FLIP_ID_STEP`.

    Raises:
        LesionError: an evaluated image is not in the data set.
    """
    name = str(evaluation.summary["dataset"])
    split = name.rpartition("_")[2]
    lesions = {lesion.image_id: lesion for lesion in read_split(dataset_dir, split)}
    if missing := {image_id % FLIP_ID_STEP for image_id in evaluation.max_iou} - lesions.keys():
        raise LesionError(
            f"{evaluation.folder}: image {min(missing)} of {name} is not in "
            f"{dataset_dir / split}.json; name the converted folder that was evaluated"
        )
    return lesions


def read_submitted(eval_dir: Path, lesion: LesionImage) -> np.ndarray:
    """Return the submitted mask of an image as bool, at the size of the data set's image.

    Raises:
        LesionError: the file is missing, not readable, or of neither the data set's size nor the
            original's.
    """
    path = eval_dir / SUBMISSION / mask_name(lesion.isic_id)
    try:
        data = read_source(path)
        mask = read_mask(data, read_header(data), 128, lambda *_: None)
    except BadFileError as error:
        raise LesionError(f"{path}: not a readable mask ({error}); {REMEDY}") from error
    sizes = [(lesion.height, lesion.width), (lesion.original_height, lesion.original_width)]
    if mask.shape not in sizes:
        raise LesionError(
            f"{path}: is {mask.shape[1]}x{mask.shape[0]}, the image {lesion.width}x{lesion.height} "
            f"and its original {lesion.original_width}x{lesion.original_height}; {REMEDY}"
        )
    size = (lesion.width, lesion.height)
    return cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def _read_table(path: Path, columns: Iterable[str]) -> dict[str, np.ndarray]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows, names = list(reader), reader.fieldnames or []
    except OSError as error:
        raise LesionError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
    except (csv.Error, ValueError) as error:
        raise LesionError(f"{path}: not a CSV file ({error}); {REMEDY}") from error
    check_columns(path, names, ("image_id", *columns), REMEDY)
    if not rows:
        raise LesionError(f"{path}: holds no image; {REMEDY}")
    known = [name for name in COLUMNS if name in names]
    table = {name: np.array([_value(path, name, row[name]) for row in rows]) for name in known}
    ids, times = np.unique(table["image_id"], return_counts=True)
    if times.max() > 1:
        raise LesionError(f"{path}: holds image {ids[times.argmax()]} twice; {REMEDY}")
    return table


def _value(path: Path, name: str, cell: str | None) -> str | int | float:
    """Return a cell of a column as what the column holds."""
    if name == "isic_id":
        if not cell:
            raise LesionError(f"{path}: no text at isic_id; {REMEDY}")
        return cell
    if name == ESTIMATE and cell == "":
        return math.nan
    try:
        number = int(cell or "") if name in WHOLE_NUMBERS else float(cell or "")
    except ValueError as error:
        raise LesionError(f"{path}: no number at {name} ({error}); {REMEDY}") from error
    limits = {metric: METRICS[metric].limits for metric in METRICS} | {ESTIMATE: (0, 1)}
    low, high = limits.get(name, (-math.inf, math.inf))
    if not math.isfinite(number) or not low <= number <= high:
        raise LesionError(f"{path}: {name} of an image is out of range ({number}); {REMEDY}")
    return number
