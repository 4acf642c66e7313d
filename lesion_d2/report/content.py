"""What metrics.json says, in words and formatted figures."""

import math
from pathlib import Path
from typing import Any

from lesion_d2.errors import LesionError
from lesion_d2.evaluation.evaluation import Evaluation
from lesion_d2.evaluation.official import SCORES
from lesion_d2.results.evaluation import REMEDY

# What to call each score of an image, and what it is.
SCORE_WORDS = {
    "max_iou": ("Max IoU", "largest over the instances from the score threshold on"),
    "top1_iou": ("Top-1 IoU", "of the instance of highest score"),
    "jaccard": ("Jaccard", "IoU of the submitted mask"),
    "threshold_jaccard": ("Threshold Jaccard", "0 below 0.65; ranks the challenge"),
    "dice": ("Dice", "of the submitted mask"),
    "sensitivity": ("Sensitivity", "of its pixels"),
    "specificity": ("Specificity", "of its pixels"),
    "accuracy": ("Accuracy", "of its pixels"),
}
COUNTS = ("num_images", "misses", "below_065", "submitted_below_065", "submitted_empty")
QUARTILES = ("q1_max_iou", "median_max_iou", "q3_max_iou")
NUMBERS = (
    *(f"mean_{name}{end}" for name in SCORES for end in ("", "_low", "_high")),
    *COUNTS,
    *QUARTILES,
    "score_threshold",
)

_WHAT_RAN = {
    "dataset": "Data set",
    "num_images": "Images",
    "resolution": "Scored at the size of",
    "fingerprint": "Fingerprint of the input",
    "split_fingerprint": "Fingerprint of the split",
    "weights": "Weights",
    "weights_sha256": "SHA-256 of the weights",
    "seed": "Seed",
    "min_size_test": "Shorter side in the network",
    "precision": "Network computes in",
    "score_threshold": "Score threshold of max IoU",
    "views": "Views",
    "view_scales": "Scales of the views",
    "instance_choice": "Choice of the submitted mask",
    "postprocessing": "Post-processing",
    "mask_threshold": "Threshold of mask pixels",
    "versions": "Versions",
}
_RESOLUTIONS = {"data set": "the data set's images", "original": "the originals"}


def check_numbers(evaluation: Evaluation) -> None:
    """Raise a LesionError unless ``metrics.json`` holds a finite number at each of NUMBERS."""
    for key in NUMBERS:
        value = evaluation.summary.get(key)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            path = evaluation.folder / "metrics.json"
            raise LesionError(f"{path}: no number at {key} ({value!r}); {REMEDY}")


def metric_rows(summary: dict[str, Any]) -> list[dict[str, str]]:
    """Return name, explanation, mean and interval of each score."""
    return [
        {
            "name": label,
            "note": note,
            "mean": f"{summary[f'mean_{name}']:.4f}",
            "interval": f"{summary[f'mean_{name}_low']:.4f}–{summary[f'mean_{name}_high']:.4f}",
        }
        for name, (label, note) in SCORE_WORDS.items()
    ]


def what_ran(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return labels and values of what was evaluated and how."""
    values = {key: _words(summary.get(key)) for key in _WHAT_RAN}
    values["resolution"] = _RESOLUTIONS.get(values["resolution"], values["resolution"])
    return [(label, values[key]) for key, label in _WHAT_RAN.items()]


def read_config(run_dir: Path) -> str:
    """Return the text of the run's ``config.yaml``."""
    path = run_dir / "config.yaml"
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LesionError(
            f"{path}: cannot be read ({error.strerror}); name the folder of a run"
        ) from error


def _words(value: Any) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
