"""What an evaluation of a data set says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation folder says.

    Attributes:
        folder: where it was read.
        summary: ``metrics.json``.
        table: the columns of ``per_image.csv`` by name, each of shape (N,): ``isic_id`` text,
            counts whole numbers, all else floats; scores lie in [0, 1], and ``estimated_iou`` is
            NaN where the file leaves it empty.
    """

    folder: Path
    summary: dict[str, Any]
    table: dict[str, np.ndarray]

    @property
    def max_iou(self) -> dict[int, float]:
        """Image id -> max IoU in [0, 1]."""
        ids, values = self.table["image_id"].tolist(), self.table["max_iou"].tolist()
        return dict(zip(ids, values, strict=True))
