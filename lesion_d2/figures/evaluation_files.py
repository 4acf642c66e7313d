"""Reading an evaluation folder for the figures."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesion_d2.errors import LesionError
from lesion_d2.figures.json_files import read_json

REMEDY = "write the folder with tools/eval.py"
SUMMARY_KEYS = (
    "dataset",
    "score_threshold",
    "mean_max_iou",
    "mean_max_iou_low",
    "mean_max_iou_high",
)


@dataclass(frozen=True)
class Evaluation:
    """What the figures need of an evaluation.

    Attributes:
        summary: ``metrics.json``.
        max_iou: image id -> max IoU in [0, 1].
    """

    summary: dict[str, Any]
    max_iou: dict[int, float]


def read_evaluation(eval_dir: Path) -> Evaluation:
    """Return ``metrics.json`` and the IoU column of ``per_image.csv``.

    Raises:
        LesionError: a file is missing, broken or empty.
    """
    summary_path, table_path = eval_dir / "metrics.json", eval_dir / "per_image.csv"
    summary = read_json(summary_path, REMEDY)
    for key in SUMMARY_KEYS:
        if key not in summary:
            raise LesionError(f"{summary_path}: lacks the key '{key}'; {REMEDY}")
    try:
        with open(table_path, encoding="utf-8", newline="") as stream:
            max_iou = {
                int(row["image_id"]): float(row["max_iou"]) for row in csv.DictReader(stream)
            }
    except OSError as error:
        raise LesionError(f"{table_path}: cannot be read ({error.strerror}); {REMEDY}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise LesionError(
            f"{table_path}: no number at image_id or max_iou ({error}); {REMEDY}"
        ) from error
    if not max_iou:
        raise LesionError(f"{table_path}: holds no image; {REMEDY}")
    return Evaluation(summary, max_iou)


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
