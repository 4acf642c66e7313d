"""How a file says that its pixels are to be turned, and turning them."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

Value = TypeVar("Value", bound=np.generic)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened file, 1 (as stored) to 8.

    It is what Pillow finds in an EXIF block, ImageMagick's raw profile or XMP. What cannot be read
    turns nothing. Pillow turns a TIFF by itself, so that is upright.
    """
    if image.format == "TIFF":
        return 1
    try:
        # Not the method of PngImageFile, which decodes the pixels first.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return int(orientation) if orientation in range(1, 9) else 1
    except Exception:  # Pillow's parsers raise nearly anything on a damaged block
        return 1


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
