"""What an evaluation of a data set says, of each image and of all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lesion_d2.evaluation.metrics import METRICS

ESTIMATE = "estimated_iou"  # NaN without a confidence model
# Of the submitted mask, see :class:`lesion_d2.prediction.lesion.Lesion`.
LESION_COLUMNS = (
    *("score", "candidates", "sharpness", "agreement", "area_share", "border_share", ESTIMATE),
)
COLUMNS = ("image_id", "isic_id", "num_instances", "top_score", *METRICS, *LESION_COLUMNS)
WHOLE_NUMBERS = ("image_id", "num_instances", "candidates")


@dataclass(frozen=True)
class ScoredImage:
    """What is known of an image after its prediction.

    Attributes:
        row: of ``per_image.csv``, by column; what an instance would give is 0 where there is none.
        instances: those from the score threshold on, by falling score, as COCO results.
        truth: compressed COCO RLE of shape (H, W).
        masks: the submitted mask and the true one, as PNG; empty where they are not wanted.
    """

    row: dict[str, Any]
    instances: list[dict[str, Any]]
    truth: dict[str, Any]
    masks: tuple[bytes, ...]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation folder says.

    Attributes:
        folder: where it was read.
        summary: ``metrics.json``.
        table: the columns of ``per_image.csv``, some of :data:`COLUMNS` by name, each of shape
            (N,): ``isic_id`` text, :data:`WHOLE_NUMBERS` integers, all else floats.
    """

    folder: Path
    summary: dict[str, Any]
    table: dict[str, np.ndarray]

    @property
    def max_iou(self) -> dict[int, float]:
        """Image id -> max IoU in [0, 1]."""
        ids, values = self.table["image_id"].tolist(), self.table["max_iou"].tolist()
        return dict(zip(ids, values, strict=True))
