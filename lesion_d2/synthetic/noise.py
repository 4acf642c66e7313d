"""Smooth random fields and colour layers that come out the same on every machine.

OpenCV's float kernels may round differently from one processor to another. So images are resized
and blurred as integers, which OpenCV does bit-exactly, and float fields only meet NumPy's
element-wise arithmetic, which IEEE 754 fixes.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Image = NDArray[np.uint8]
Levels = NDArray[np.uint8] | NDArray[np.uint16]

# Grids coarser than this many pixels are smoothed first, or linear interpolation shows its facets.
FACET_CELL = 4
FACET_BLUR = (9, 9)
# Bring the two kinds of field to a standard deviation of about 1.
FINE_GAIN = 2.7
COARSE_GAIN = 3.4
# Fraction bits of the coordinates that OpenCV draws with.
SUBPIXEL_BITS = 4


def enlarge(levels: Levels, height: int, width: int) -> Field:
    """Resize uint8 or uint16 ``levels`` to (height, width): float32 in [0, 1]."""
    resized = cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return resized * np.float32(1 / np.iinfo(levels.dtype).max)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Field:
    """Draw a smooth random field: float32 (height, width), mean about 0, deviation about 1.

    ``cell`` is the distance in pixels between independent values; at least 1.
    """
    cell = max(cell, 1.0)
    shape = (math.ceil(height / cell) + 1, math.ceil(width / cell) + 1)
    grid: NDArray = rng.integers(0, 65536, shape, dtype=np.uint16)
    gain = FINE_GAIN
    if cell > FACET_CELL:
        size = (4 * shape[1], 4 * shape[0])
        grid = cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR_EXACT)
        grid = cv2.GaussianBlur(grid, FACET_BLUR, 0)
        gain = COARSE_GAIN
    return (enlarge(grid, height, width) - np.float32(0.5)) * np.float32(2 * gain)


def paint(image: Image, mask: Image, colour: tuple[int, int, int], opacity: float) -> None:
    """Blend a colour into ``image``, uint8 (H, W, 3), in place, in fixed point.

    ``mask`` is uint8 (H, W): 0 leaves a pixel alone, 255 paints it with the full opacity.
    """
    x, y, width, height = cv2.boundingRect(mask)
    region = image[y : y + height, x : x + width]
    weight = mask[y : y + height, x : x + width].astype(np.uint16)
    weight = weight * np.uint16(round(opacity * 256)) // np.uint16(255)
    for channel, value in enumerate(colour):
        blend = region[..., channel] * (256 - weight) + np.uint16(value) * weight
        region[..., channel] = blend >> 8
