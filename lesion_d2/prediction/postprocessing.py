"""From a soft mask to the submitted one, in named steps.

``TEST.POSTPROCESSING`` lists them in order, as ``name`` or ``name:value``. Steps before
``threshold`` change the soft mask at the model's working size; it is then resized to the size of
the output, thresholded, and the steps after it change the binary mask.
"""

from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
from fvcore.common.registry import Registry

from lesion_d2.errors import LesionError

SOFT_STEPS = Registry("POSTPROCESSING_SOFT")
MASK_STEPS = Registry("POSTPROCESSING_MASK")


@SOFT_STEPS.register()
def smooth(soft: npt.NDArray, value: float = 0.01) -> npt.NDArray:
    """Blur with a Gaussian; ``value`` is its deviation as a share of the longer side."""
    return cv2.GaussianBlur(soft, (0, 0), value * max(soft.shape))


@MASK_STEPS.register()
def largest_component(mask: npt.NDArray) -> npt.NDArray:
    """Keep the largest region (8-connected); of equal ones the first in reading order."""
    _, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # One region at most, the usual case; labelling takes 30 times as long as its outline.
    if hierarchy is None or np.count_nonzero(hierarchy[0, :, 3] < 0) == 1:
        return mask
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return (labels == 1 + int(areas.argmax())).view(np.uint8)


@MASK_STEPS.register()
def fill_holes(mask: npt.NDArray) -> npt.NDArray:
    """Fill what a region encloses."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)


@MASK_STEPS.register()
def convex_hull(mask: npt.NDArray) -> npt.NDArray:
    """Replace the regions by the convex hull of them all."""
    points = cv2.findNonZero(mask)
    if points is None:
        return mask
    return cv2.fillConvexPoly(np.zeros_like(mask), cv2.convexHull(points), 1)


class Postprocessing:
    """A pipeline of steps.

    Args:
        steps: ``name`` or ``name:value``, just one of them ``threshold``.

    Raises:
        LesionError: if a step is unknown, out of place or has a wrong value.
    """

    def __init__(self, steps: Sequence[str]) -> None:
        names = [step.partition(":")[0] for step in steps]
        if names.count("threshold") != 1:
            raise _wrong(steps, "there must be one threshold")
        position = names.index("threshold")
        self._soft = [_step(SOFT_STEPS, step) for step in steps[:position]]
        self._threshold = _value(steps[position]).get("value", 0.5)
        self._masks = [_step(MASK_STEPS, step) for step in steps[position + 1 :]]

    def __call__(
        self, soft: npt.NDArray[np.float32], size: tuple[int, int]
    ) -> npt.NDArray[np.bool_]:
        """Return the mask of shape ``size`` (height, width) of a soft mask of any size."""
        for step in self._soft:
            soft = step(soft)
        if soft.shape != size:
            soft = np.asarray(cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR))
        mask = (soft >= self._threshold).view(np.uint8)
        for step in self._masks:
            mask = step(mask)
        return mask.view(bool)


def _step(registry: Registry, step: str) -> Callable[[npt.NDArray], npt.NDArray]:
    name = step.partition(":")[0]
    if name not in registry:
        raise _wrong(step, "unknown, or at a wrong place")
    value = _value(step)
    if value and registry is MASK_STEPS:
        raise _wrong(step, "takes no value")
    return partial(registry.get(name), **value)


def _value(step: str) -> dict[str, float]:
    _, colon, text = step.partition(":")
    if not colon:
        return {}
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise _wrong(step, "its value is not a number between 0 and 1")
    return {"value": value}


def _wrong(steps: object, reason: str) -> LesionError:
    soft = ", ".join(name for name, _ in SOFT_STEPS)
    after = ", ".join(name for name, _ in MASK_STEPS)
    return LesionError(
        f"TEST.POSTPROCESSING: {steps!r}: {reason}; give any of {soft}, then threshold, then any "
        f"of {after}; the first two kinds take a value, as in threshold:0.4"
    )
