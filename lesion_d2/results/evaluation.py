"""Reading an evaluation folder: the one place that knows its files."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lesion_d2.data.converted import FLIP_ID_STEP, LesionImage, read_split
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.evaluation import Evaluation
from lesion_d2.evaluation.official import SCORES
from lesion_d2.files import read_json

REMEDY = "write the folder with tools/eval.py"
SUMMARY_KEYS = (
    "dataset",
    "score_threshold",
    "mean_max_iou",
    "mean_max_iou_low",
    "mean_max_iou_high",
)

ESTIMATE = "estimated_iou"  # empty where there was no confidence model
# Of the submitted mask; what the confidence model estimates its IoU from.
_FEATURES = ("score", "candidates", "sharpness", "agreement", "area_share", "border_share")
_COUNTS = ("image_id", "num_instances", "candidates")
_COLUMNS = ("isic_id", "top_score", *SCORES, *_COUNTS, *_FEATURES, ESTIMATE)


def find_evaluations(folder: Path) -> list[Path]:
    """Return the evaluation folder that ``folder`` is, or all of a run's.

    Raises:
        LesionError: there is none.
    """
    if (folder / "per_image.csv").is_file():
        return [folder]
    if found := sorted(path.parent for path in folder.glob("eval/*/per_image.csv")):
        return found
    raise LesionError(f"{folder}: holds no evaluation (per_image.csv); {REMEDY}")


def find_evaluation(folder: Path) -> Path:
    """Return the evaluation folder that ``folder`` is, or the only one of a run's.

    Raises:
        LesionError: there is none, or several.
    """
    found = find_evaluations(folder)
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise LesionError(f"{folder}: holds {len(found)} evaluations; name one of {names}")
    return found[0]


def read_evaluations(folders: Iterable[Path]) -> list[Evaluation]:
    """Return evaluations to compare, each with its columns ``max_iou`` and ``num_instances``.

    Args:
        folders: of evaluations, or of runs with one evaluation each.

    Raises:
        LesionError: a file is missing or broken, or a folder is given twice.
    """
    paths = [find_evaluation(folder) for folder in folders]
    for index, path in enumerate(paths):
        if path.resolve() in [earlier.resolve() for earlier in paths[:index]]:
            raise LesionError(f"{path}: given twice; name another evaluation")
    columns = ("isic_id", "max_iou", "num_instances")
    return [read_evaluation(path, ("dataset",), columns) for path in paths]


def read_evaluation(
    eval_dir: Path, keys: Iterable[str] = SUMMARY_KEYS, columns: Iterable[str] = ("max_iou",)
) -> Evaluation:
    """Return ``metrics.json`` and the columns of ``per_image.csv``.

    Args:
        eval_dir: the folder that ``tools/eval.py`` wrote.
        keys: what ``metrics.json`` has to hold.
        columns: what ``per_image.csv`` has to hold beside ``image_id``; others are read where
            they are there.

    Raises:
        LesionError: a file is missing, broken or empty, or the two do not fit each other.
    """
    summary_path, table_path = eval_dir / "metrics.json", eval_dir / "per_image.csv"
    summary = read_json(summary_path, REMEDY)
    if not isinstance(summary, dict):
        raise LesionError(f"{summary_path}: not a JSON object; {REMEDY}")
    for key in keys:
        if key not in summary:
            raise LesionError(f"{summary_path}: lacks the key '{key}'; {REMEDY}")
    table = _read_table(table_path, columns)
    rows = len(table["image_id"])
    if summary.get("num_images", rows) != rows:
        raise LesionError(
            f"{table_path}: holds {rows} images, metrics.json says {summary['num_images']}; "
            f"{REMEDY}"
        )
    return Evaluation(eval_dir, summary, table)


def read_predictions(eval_dir: Path) -> dict[int, list[dict[str, Any]]]:
    """Return the COCO results of ``predictions.json`` by image id.

    Raises:
        LesionError: the file is missing, not JSON or lacks a key.
    """
    path = eval_dir / "predictions.json"
    by_image: dict[int, list[dict[str, Any]]] = {}
    for instance in read_json(path, REMEDY):
        for key in ("image_id", "segmentation", "score", "iou"):
            if key not in instance:
                raise LesionError(f"{path}: an instance lacks the key '{key}'; {REMEDY}")
        by_image.setdefault(instance["image_id"], []).append(instance)
    return by_image


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


def _read_table(path: Path, columns: Iterable[str]) -> dict[str, np.ndarray]:
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except OSError as error:
        raise LesionError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
    except (csv.Error, ValueError) as error:
        raise LesionError(f"{path}: not a CSV file ({error}); {REMEDY}") from error
    names = reader.fieldnames or []
    for name in ("image_id", *columns):
        if name not in names:
            raise LesionError(f"{path}: no number at {name}, it has no such column; {REMEDY}")
    if not rows:
        raise LesionError(f"{path}: holds no image; {REMEDY}")
    cells = {name: [row[name] for row in rows] for name in names if name in _COLUMNS}
    table = {name: np.array([_value(path, name, cell) for cell in cells[name]]) for name in cells}
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
    try:
        if name in _COUNTS:
            return int(cell or "")
        if name == ESTIMATE and cell == "":
            return math.nan
        number = float(cell or "")
    except ValueError as error:
        raise LesionError(f"{path}: no number at {name} ({error}); {REMEDY}") from error
    if not math.isfinite(number) or (name in (*SCORES, ESTIMATE) and not 0 <= number <= 1):
        raise LesionError(f"{path}: {name} of an image is out of range ({number}); {REMEDY}")
    return number
