"""What the ground truth says about an image, for comparison with its IoU."""

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.data.converted import LesionImage
from lesion_d2.images.scaling import fit

# The ring of skin that a lesion is compared with is this part of the lesion's radius wide.
RING_WIDTH = 0.25
THUMBNAIL_SIDE = 256


class Facts(NamedTuple):
    """Of one image and its annotated lesion; :func:`colours` explains the last two."""

    area_share: float  # of the image that is lesion
    at_border: bool  # whether the lesion reaches the image's edge
    original_size: tuple[int, int]  # (width, height) of the archive's file, in pixels
    contrast: float | None
    skin_tone: float | None  # in degrees


def look_at(
    lesion: LesionImage,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], Facts]:
    """Read an image and its ground truth.

    Returns:
        the image, RGB of shape (H, W, 3), its longer side at most 256; shape (H, W), the share of
        each of its pixels that is lesion; what the ground truth says.

    Raises:
        LesionError: the image file cannot be read, or the mask is of another size.
    """
    mask = lesion.read_mask()
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    rgb = fit(lesion.read_rgb(), THUMBNAIL_SIDE)
    truth = fit(mask.astype(np.float32), THUMBNAIL_SIDE)
    facts = Facts(
        float(mask.mean()),
        any(edge.any() for edge in edges),
        (lesion.original_width, lesion.original_height),
        *colours(rgb, truth >= 0.5),
    )
    return rgb, truth, facts


def colours(
    rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]
) -> tuple[float, float] | tuple[None, None]:
    """Return how far the lesion's colour is from that of the skin around it, and the skin's tone.

    Both are of CIE L*a*b* (sRGB with white point D65). The skin is the ring of pixels outside the
    lesion that are no further from it than a quarter of the radius of a disc of its area, and at
    least 2 pixels.

    Args:
        rgb: shape (H, W, 3).
        mask: shape (H, W), True inside the lesion.

    Returns:
        the CIE 1976 difference of the mean colours, of which about 2 is just visible, and the
        individual typology angle ``atan2(L* - 50, b*)`` of the ring's medians in degrees (Chardon,
        Cretois and Hourseau, Int. J. Cosmet. Sci. 13, 1991), greater for lighter skin. None and
        None where there is no lesion or nothing outside it.
    """
    if not mask.any() or mask.all():
        return None, None
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    width = max(2.0, RING_WIDTH * float(np.sqrt(mask.sum() / np.pi)))
    lab: npt.NDArray = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    inside, ring = lab[mask], lab[~mask & (distance <= width)]
    difference = inside.mean(axis=0, dtype=np.float64) - ring.mean(axis=0, dtype=np.float64)
    # A hair or a bubble moves no median.
    lightness, _, yellow = np.median(ring.astype(float), axis=0).tolist()
    return float(np.linalg.norm(difference)), math.degrees(math.atan2(lightness - 50, yellow))
