"""Making images and masks smaller in exact step, and turning them.

A JPEG decoded at 1/2, 1/4 or 1/8 (libjpeg's DCT scaling) has ceil(side / k) pixels a side, each
the mean of a block of k x k pixels counted from the corner where the *stored* rows begin. Whatever
goes with such an image must be reduced over the same blocks, so all resizing is done on the stored
pixels, and they are turned afterwards.
"""

from fractions import Fraction
from math import ceil
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Value = TypeVar("Value", bound=np.generic)
STEPS = (8, 4, 2, 1)


def scaled_size(height: int, width: int, scale: Fraction) -> tuple[int, int]:
    """Return the size after scaling: every side rounded up, as libjpeg does."""
    return ceil(height * scale), ceil(width * scale)


def step_of(scale: Fraction) -> int:
    """Return the largest k whose picture at 1/k of its sides is not smaller than the target."""
    return next(k for k in STEPS if scale * k <= 1)


def reduce(pixels: npt.NDArray, k: int) -> npt.NDArray:
    """Average blocks of k x k pixels; the last ones are filled up by repeating the edge."""
    if k == 1:
        return pixels
    height, width = pixels.shape[:2]
    if height % k or width % k:
        pixels = cv2.copyMakeBorder(pixels, 0, -height % k, 0, -width % k, cv2.BORDER_REPLICATE)
    return shrink(pixels, (pixels.shape[0] // k, pixels.shape[1] // k))


def shrink(pixels: npt.NDArray, size: tuple[int, int]) -> npt.NDArray:
    """Average over pixel areas; ``size`` is (height, width)."""
    if pixels.shape[:2] == size:
        return pixels
    return cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)


def fit(pixels: np.ndarray, side: float) -> np.ndarray:
    """Return pixels (H, W[, 3]) averaged to a longer side of ``side`` pixels, if theirs is longer.

    No side becomes 0.
    """
    scale = min(1, side / max(pixels.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    return shrink(pixels, (height, width))


def fit_shortest(pixels: npt.NDArray[np.uint8], side: int, longest: int) -> npt.NDArray[np.uint8]:
    """Return pixels (H, W, 3) resized to a shorter side of ``side``, unless the longer exceeds.

    As ``detectron2.data.transforms.ResizeShortestEdge`` does for a network, but that no side
    becomes 0. A ``side`` of 0 leaves the pixels as they are.
    """
    if not side:
        return pixels
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    sides: tuple[float, float] = (side, scale * width) if height < width else (scale * height, side)
    if max(sides) > longest:
        scale = longest / max(sides)
        sides = (sides[0] * scale, sides[1] * scale)
    height, width = (max(1, int(length + 0.5)) for length in sides)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def resize_mask(mask: npt.NDArray[np.bool_], scale: Fraction) -> npt.NDArray[np.bool_]:
    """Scale a stored mask exactly as :func:`~lesion_d2.images.reading.decode_image` its image.

    Of (ceil(H * scale), ceil(W * scale)) pixels those are True that the lesion covers by half.
    """
    if scale == 1:
        return mask
    height, width = mask.shape
    reduced = reduce(mask.view(np.uint8) * np.uint8(255), step_of(scale))
    return shrink(reduced, scaled_size(height, width, scale)) >= 128


def orient(pixels: npt.NDArray[Value], orientation: int) -> npt.NDArray[Value]:
    """Turn stored pixels (H, W[, C]) into the picture that is to be seen (EXIF 2.3, tag 0x112)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def unorient(pixels: npt.NDArray[Value], orientation: int) -> npt.NDArray[Value]:
    """Undo :func:`orient`; only the two quarter turns are not their own inverse."""
    return orient(pixels, {6: 8, 8: 6}.get(orientation, orientation))
