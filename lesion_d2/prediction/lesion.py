"""The one lesion of an image, as it is submitted."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from lesion_d2.prediction.candidates import MASK_THRESHOLD, Candidates


@dataclass(frozen=True, eq=False)
class Lesion:
    """A prediction. Where nothing was found the mask is empty and every number 0.

    Attributes:
        mask: bool of shape (H, W).
        score: of the chosen instance, in [0, 1].
        candidates: how many instances there were to choose from.
        sharpness: soft Jaccard index of the probabilities and the mask they give at 0.5: 1 when
            every pixel is certain.
        agreement: mean IoU of the instance in the first view with those of the other views.
        area_share: share of the image's pixels in the mask.
        border_share: share of the pixels of the image's border in the mask.
        estimated_iou: the IoU to expect, in [0, 1]; None without a confidence model.
    """

    mask: npt.NDArray[np.bool_]
    score: float
    candidates: int
    sharpness: float
    agreement: float
    area_share: float
    border_share: float
    estimated_iou: float | None = None

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Smallest x and y in the mask, and the largest plus one; zeros for an empty mask."""
        left, top, width, height = cv2.boundingRect(self.mask.view(np.uint8))
        return left, top, left + width, top + height

    @cached_property
    def contour(self) -> npt.NDArray[np.int32]:
        """The outline of the largest region: (N, 2) x and y of its border pixels, in order."""
        contours, _ = cv2.findContours(
            self.mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        if not contours:
            return np.empty((0, 2), np.int32)
        return max(contours, key=cv2.contourArea)[:, 0].astype(np.int32)

    @cached_property
    def longest_diameter(self) -> float:
        """Largest distance of two border pixels' centres, in pixels; 0 below two pixels."""
        if len(self.contour) < 2:
            return 0.0
        hull = cv2.convexHull(self.contour)[:, 0]
        return float(pdist(hull).max())


def describe_lesion(mask: npt.NDArray[np.bool_], chosen: Candidates, candidates: int) -> Lesion:
    """Put a lesion together.

    Args:
        mask: the post-processed mask, at the output's size.
        chosen: the one candidate it came from, or none.
        candidates: how many there were.
    """
    if not len(chosen):
        return Lesion(mask, 0.0, candidates, 0.0, 0.0, 0.0, 0.0)
    soft = chosen.masks[0]
    inside = soft >= MASK_THRESHOLD
    union = inside.sum() + soft[~inside].sum()
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return Lesion(
        mask=mask,
        score=float(chosen.scores[0]),
        candidates=candidates,
        sharpness=float(soft[inside].sum() / union.clamp(min=1e-6)),
        agreement=float(chosen.agreement[0]),
        area_share=np.count_nonzero(mask) / mask.size,
        border_share=float(border.mean()),
    )
