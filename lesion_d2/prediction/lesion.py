"""The one lesion of an image, as it is submitted: how its mask is cleaned, and its measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.errors import LesionError
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
        x0, y0, x1, y1 = self.box
        part = self.mask[y0:y1, x0:x1].view(np.uint8)
        if not part.size:
            return np.empty((0, 2), np.int32)
        border = cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        contours, _ = cv2.findContours(part, *border, offset=(x0, y0))
        return max(contours, key=cv2.contourArea)[:, 0].astype(np.int32)

    @cached_property
    def longest_diameter(self) -> float:
        """Largest distance of two border pixels' centres, in pixels; 0 below two pixels."""
        if len(self.contour) < 2:
            return 0.0
        x, y = cv2.convexHull(self.contour)[:, 0].astype(float).T
        return float(np.hypot(x[:, None] - x, y[:, None] - y).max())


def describe_lesion(mask: npt.NDArray[np.bool_], chosen: Candidates, candidates: int) -> Lesion:
    """Put a lesion together, of its post-processed mask and the one candidate it came from, if any.

    ``candidates`` is how many there were.
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
        sharpness=float(soft[inside].sum() / max(union, 1e-6)),
        agreement=float(chosen.agreement[0]),
        area_share=np.count_nonzero(mask) / mask.size,
        border_share=float(border.mean()),
    )


def largest_component(mask: npt.NDArray) -> npt.NDArray:
    """Keep the largest region (8-connected) of some; of equal ones the first in reading order."""
    _, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # One region at most, the usual case; labelling takes 30 times as long as its outline.
    if np.count_nonzero(hierarchy[0, :, 3] < 0) == 1:
        return mask
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return (labels == 1 + int(areas.argmax())).view(np.uint8)


def fill_holes(mask: npt.NDArray) -> npt.NDArray:
    """Fill what a region encloses."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)


MASK_STEPS = {"largest_component": largest_component, "fill_holes": fill_holes}


class Postprocessing:
    """The steps of ``TEST.POSTPROCESSING``: ``threshold`` or ``threshold:value``, then others.

    The soft mask is resized to the size of the output and thresholded, and the others, keys of
    :data:`MASK_STEPS`, change the binary mask.

    Raises:
        LesionError: if a step is unknown, out of place or has a wrong value.
    """

    def __init__(self, steps: Sequence[str]) -> None:
        try:
            first, *others = steps
            name, _, level = first.partition(":")
            self._threshold = float(level) if first != "threshold" else MASK_THRESHOLD
            self._steps = [MASK_STEPS[step] for step in others]
            if name != "threshold" or not 0 < self._threshold < 1:
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LesionError(
                f"TEST.POSTPROCESSING: {steps!r}; give 'threshold', or one with its value between "
                f"0 and 1 as 'threshold:0.4', then any of {', '.join(MASK_STEPS)}"
            ) from error

    def __call__(
        self, soft: npt.NDArray[np.float32], size: tuple[int, int]
    ) -> npt.NDArray[np.bool_]:
        """Return the mask of shape ``size`` (height, width) of a soft mask of any size."""
        if soft.shape != size:
            soft = np.asarray(cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR))
        mask = (soft >= self._threshold).view(np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        part = mask[top : top + height, left : left + width]  # the rest stays empty
        if part.size:
            for step in self._steps:
                part[:] = step(part)
        return mask.view(bool)
