"""A mask as polygons on the borders of its pixels, which give it back exactly when they are filled.

Corners are x, y pairs of whole numbers: pixel (x, y) covers the square from (x, y) to
(x + 1, y + 1), and is inside when its centre is.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt


class Polygon(NamedTuple):
    """A region with its holes.

    A ring is int32 of shape (N, 2): x, y of its corners in order, the first not repeated at the
    end. ``x0 * y1 - x1 * y0`` summed over its sides is positive for the exterior, negative for a
    hole, as GeoJSON wants it.
    """

    exterior: npt.NDArray[np.int32]
    holes: list[npt.NDArray[np.int32]]


def mask_polygons(mask: npt.NDArray[np.bool_]) -> list[Polygon]:
    """Return the regions of a mask of shape (H, W), the topmost first; an empty list without any.

    Pixels that touch in a corner alone are no neighbours, of the lesion and of holes alike. So no
    ring touches itself, and rings touch each other in corners only: the polygons are valid.
    """
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    x, y, columns, rows = cv2.boundingRect(pixels)
    part = pixels[y : y + rows, x : x + columns]
    if not part.size:
        return []
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(part, connectivity=4)
    found = []
    for label, (left, top, width, height, _) in enumerate(boxes[1:].tolist(), 1):
        region = labels[top : top + height, left : left + width] == label
        # OpenCV's contours run through pixel centres. On a mask of doubled size these lie a quarter
        # of a pixel inside the border, so that rounding moves each to its corner.
        double = cv2.resize(
            region.view(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST
        )
        contours, tree = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        corner = np.array([x + left, y + top], np.int32)
        rings = [_corners(contour[::-1, 0]) + corner for contour in contours]
        is_hole = tree[0, :, 3] >= 0
        found.append(
            Polygon(
                rings[int(is_hole.argmin())],
                [ring for ring, hole in zip(rings, is_hole, strict=True) if hole],
            )
        )
    return found


def count_corners(mask: npt.NDArray[np.bool_]) -> int:
    """Return how many corners the rings of :func:`mask_polygons` have, without making them."""
    padded = np.pad(mask, 1)
    upright = padded[:, 1:] ^ padded[:, :-1]  # a border between a pixel and its right neighbour
    ends = np.count_nonzero(upright[1:] ^ upright[:-1])
    # Where two pixels touch in a corner alone, two rings have one.
    touching = upright[1:] & upright[:-1] & (padded[1:, 1:] ^ padded[:-1, 1:])
    return ends + 2 * np.count_nonzero(touching)


def _corners(contour: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Round a contour of the doubled mask, and leave out points that the rounding has joined."""
    ring = (contour + 1) // 2
    return ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
