"""The pixels inside a drawn outline."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lesion_d2.errors import LesionError

MAX_CORNER = 1e9  # more pixels than any picture has
MAX_CROSSINGS = 5_000_000  # of an outline's sides with rows of pixels; each takes 40 bytes


def fill_rings(rings: Sequence[npt.ArrayLike], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return a mask of shape ``size`` (height, width): the pixels whose centre is inside.

    Args:
        rings: each (N, 2), the x and y of corners in order; pixel (x, y) covers the square from
            (x, y) to (x + 1, y + 1). A point is inside when a line from it to the outside crosses
            the rings an odd number of times: a ring inside a ring is a hole. What lies outside the
            picture is cut off.
        size: of the picture.

    Raises:
        LesionError: if a corner is not finite or too far out, or the outline is too long to fill.
    """
    height, width = size
    sides = [_sides(ring) for ring in rings]
    x0, y0, x1, y1 = np.concatenate(sides, axis=1) if sides else np.empty((4, 0))
    # Row r is crossed when its centre, r + 0.5, lies in [lower, upper) of the side.
    first, last = (
        np.clip(np.ceil(f(y0, y1) - 0.5), 0, height).astype(np.int64)
        for f in (np.minimum, np.maximum)
    )
    counts = last - first
    if counts.sum() > MAX_CROSSINGS:
        raise LesionError("outline: it is too long to be filled; draw it with fewer points")
    side = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(side)) - np.repeat(counts.cumsum() - counts, counts) + first[side]
    slope = (x1 - x0)[side] / (y1 - y0)[side]
    crossing = x0[side] + (row + 0.5 - y0[side]) * slope
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    changes = np.zeros((height, width + 1), np.uint8)
    np.bitwise_xor.at(changes, (row, column), np.uint8(1))
    return np.bitwise_xor.accumulate(changes, axis=1)[:, :width].astype(bool)


def _sides(ring: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return x0, y0, x1, y1 of the sides of a ring, shape (4, N)."""
    try:
        corners = np.asarray(ring, np.float64).reshape(-1, 2)
    except OverflowError:  # a whole number of hundreds of digits
        corners = np.full((1, 2), np.inf)
    if not (np.abs(corners) <= MAX_CORNER).all():
        detail = f"a corner is not a finite number, or farther out than {MAX_CORNER:,.0f} pixels"
        raise LesionError(f"outline: {detail}")
    return np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1).T
