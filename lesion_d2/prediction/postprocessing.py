"""From a soft mask to the submitted one, in named steps.

``TEST.POSTPROCESSING`` lists them in order: ``threshold``, or ``threshold:value``, then any of
:data:`MASK_STEPS`. The soft mask is resized to the size of the output and thresholded, and the
steps change the binary mask.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.errors import LesionError
from lesion_d2.prediction.candidates import MASK_THRESHOLD


def largest_component(mask: npt.NDArray) -> npt.NDArray:
    """Keep the largest region (8-connected); of equal ones the first in reading order."""
    _, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # One region at most, the usual case; labelling takes 30 times as long as its outline.
    if hierarchy is None or np.count_nonzero(hierarchy[0, :, 3] < 0) == 1:
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
    """A pipeline of steps.

    Args:
        steps: ``threshold`` or ``threshold:value``, then keys of :data:`MASK_STEPS`.

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
        for step in self._steps:
            mask = step(mask)
        return mask.view(bool)
