"""From a mask file to the lesion it marks, and back."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.files import atomic_write
from lesion_d2.images.reading import BadFileError, Header, decode_mask, orient

Note = Callable[[str, str], None]  # takes a reason and what was seen


def read_lesion(data: bytes, header: Header, foreground: int, note: Note) -> npt.NDArray[np.bool_]:
    """Read a mask file.

    Args:
        data: the whole file.
        header: of the file.
        foreground: 255 (only 255 is lesion) or 128 (above 128 is lesion).
        note: receives what is unusual about the mask.

    Returns:
        (H, W) as it is to be seen, True on the lesion, of which there is at least a pixel.

    Raises:
        BadFileError: ``unreadable``, ``channels_differ``, ``16_bit_values`` or ``empty``.
    """
    decoded, complaint = decode_mask(data, header)
    if complaint:
        note("decoder_warning", complaint)
    pixels = orient(decoded, header.orientation)
    values = np.ascontiguousarray(_one_byte(_one_channel(pixels, header.mode, note), note))

    # OpenCV's passes over millions of pixels are several times as fast as numpy's.
    between = cv2.countNonZero(cv2.inRange(values, 1, 254))
    if between:
        note("values_between", f"{between} pixels are neither 0 nor 255")
    lesion = values == 255 if foreground == 255 else values > foreground
    if not lesion.any():
        raise BadFileError("empty", f"no lesion; the largest value is {values.max()}")
    if lesion.all():
        note("all_lesion", "every pixel is lesion")
    components = _count_components(lesion)
    if components > 1:
        note("components", f"{components} separate parts, kept as one lesion")
    return lesion


def _one_channel(pixels: npt.NDArray, mode: str, note: Note) -> npt.NDArray:
    """Drop alpha and merge equal colour channels."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 4:
        note("alpha", f"mode {mode}, alpha channel dropped")
    grey = pixels[:, :, 0]
    if any(not np.array_equal(grey, pixels[:, :, channel]) for channel in (1, 2)):
        raise BadFileError("channels_differ", f"mode {mode}, not shades of grey")
    if mode == "P":
        note("palette", "palette of grey shades")
    elif mode not in ("L", "LA"):
        note("colour", f"mode {mode} with equal channels")
    return grey


def _one_byte(values: npt.NDArray, note: Note) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if ((values > 0) & (values < 65535)).any():
        raise BadFileError("16_bit_values", "16 bits, with values other than 0 and 65535")
    note("16_bit", "16 bits, only 0 and 65535: read as 0 and 255")
    return (values >> 8).astype(np.uint8)


def _count_components(lesion: npt.NDArray[np.bool_]) -> int:
    """Count 8-connected parts: the contours that are not those of holes."""
    _, hierarchy = cv2.findContours(lesion.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return int(np.count_nonzero(hierarchy[0, :, 3] < 0))


def write_mask(path: Path, mask: npt.NDArray[np.bool_]) -> None:
    """Write a mask of shape (H, W) as PNG: one channel of 8 bits, 255 is lesion, else 0."""
    _, data = cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255))
    with atomic_write(path, "wb") as stream:
        stream.write(data.tobytes())
