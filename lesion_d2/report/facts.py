"""What the ground truth says about an image, for comparison with its IoU."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.data.converted import LesionImage

# The ring of skin that a lesion is compared with is this part of the lesion's radius wide.
RING_WIDTH = 0.25
THUMBNAIL_SIDE = 256


@dataclass(frozen=True)
class Thumbnail:
    """A small copy of an image; it is never larger than the image.

    Attributes:
        rgb: shape (H, W, 3), uint8, the longer side at most 256.
        truth: shape (H, W), float32, the share of each pixel that is lesion.
    """

    rgb: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Facts:
    """Of one image and its annotated lesion.

    Attributes:
        area_share: share of the image that is lesion.
        at_border: whether the lesion reaches the image's edge.
        original_size: (width, height) of the archive's file, in pixels.
        contrast: see :func:`colour_contrast`.
    """

    area_share: float
    at_border: bool
    original_size: tuple[int, int]
    contrast: float | None


def shrink(pixels: np.ndarray, side: float, like: tuple[int, int] | None = None) -> np.ndarray:
    """Return ``pixels`` averaged to a longer side of ``side``, or as they are if that is smaller.

    Args:
        pixels: shape (H, W) or (H, W, 3).
        side: in pixels.
        like: (height, width) to decide the size by and to give; by default that of ``pixels``.
    """
    height, width = like or pixels.shape[:2]
    scale = min(1, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == pixels.shape[1::-1]:
        return pixels
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def look_at(lesion: LesionImage) -> tuple[Thumbnail, Facts]:
    """Read an image and its ground truth.

    Raises:
        LesionError: the image file cannot be read, or the mask is of another size.
    """
    mask = lesion.read_mask()
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    thumbnail = Thumbnail(
        shrink(lesion.read_rgb(), THUMBNAIL_SIDE), shrink(mask.astype(np.float32), THUMBNAIL_SIDE)
    )
    facts = Facts(
        area_share=float(mask.mean()),
        at_border=any(edge.any() for edge in edges),
        original_size=(lesion.original_width, lesion.original_height),
        contrast=colour_contrast(thumbnail.rgb, thumbnail.truth >= 0.5),
    )
    return thumbnail, facts


def colour_contrast(rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> float | None:
    """Return how far the lesion's mean colour is from that of the skin around it.

    It is the CIE 1976 colour difference (the distance in CIE L*a*b*, sRGB with white point D65)
    of the mean colours of the lesion and of the ring of pixels outside it that are no further
    from it than a quarter of the radius of a disc of its area, and at least 2 pixels. About 2 is
    just visible.

    Args:
        rgb: shape (H, W, 3).
        mask: shape (H, W), True inside the lesion.

    Returns:
        the difference, or None where there is no lesion or nothing outside it.
    """
    if not mask.any() or mask.all():
        return None
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    width = max(2.0, RING_WIDTH * float(np.sqrt(mask.sum() / np.pi)))
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    inside = lab[mask].mean(axis=0, dtype=np.float64)
    around = lab[~mask & (distance <= width)].mean(axis=0, dtype=np.float64)
    return float(np.linalg.norm(inside - around))
