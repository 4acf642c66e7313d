"""What metrics.json says, in words and formatted figures."""

import math
from typing import Any

from lesion_d2.errors import LesionError
from lesion_d2.evaluation.evaluation import Evaluation
from lesion_d2.evaluation.metrics import COUNTS, METRICS
from lesion_d2.results.evaluation import REMEDY

NUMBERS = (
    *(f"mean_{name}{end}" for name in METRICS for end in ("", "_low", "_high")),
    "num_images",
    *COUNTS,
    *("q1_max_iou", "median_max_iou", "q3_max_iou", "score_threshold"),
)

_WHAT_RAN = {
    "dataset": "Data set",
    "num_images": "Images",
    "resolution": "Scored at the size of",
    "input_fingerprint": "Fingerprint of the input",
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


def metric_rows(summary: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return name, explanation, mean and interval of each score."""
    rows = []
    for name, metric in METRICS.items():
        mean, low, high = (
            f"{summary[f'mean_{name}{end}']:{metric.mean_format}}" for end in ("", "_low", "_high")
        )
        rows.append((metric.words, metric.note, mean, f"{low}–{high}"))
    return rows


def what_ran(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return labels and values of what was evaluated and how."""
    values = {key: _words(summary.get(key)) for key in _WHAT_RAN}
    values["resolution"] = _RESOLUTIONS.get(values["resolution"], values["resolution"])
    return [(label, values[key]) for key, label in _WHAT_RAN.items()]


def _words(value: Any) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
