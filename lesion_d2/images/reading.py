"""Decoding images and masks from bytes, and making both smaller in exact step.

A JPEG decoded at 1/2, 1/4 or 1/8 (libjpeg's DCT scaling) has ceil(side / k) pixels a side, each
the mean of a block of k x k pixels counted from the corner where the *stored* rows begin. Whatever
goes with such an image must be reduced over the same blocks, so all resizing is done on the stored
pixels, and the EXIF orientation is applied afterwards.
"""

import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil
from typing import IO

import cv2
import kornia_rs.io
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_JPEG_QUALITY = 95
# PNG (ISO/IEC 15948), 11.2: depth and colour type in the header, and the last chunk.
_GREY_OF_8_BITS = bytes([8, 0])
_PNG_END = bytes(4) + b"IEND\xae\x42\x60\x82"
# How libjpeg's message begins when pixels may be made up; its other warnings are harmless.
_DAMAGE = "Corrupt JPEG data"


class BadFileError(Exception):
    """A file that cannot be used.

    Attributes:
        reason: the reason without the kind of file, such as ``unreadable``.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What a file says about itself before any pixel is decoded.

    Attributes:
        kind: ``JPEG`` or ``PNG``.
        mode: Pillow's name of the pixel format, such as ``RGB``, ``L`` or ``P``.
        height: rows as stored.
        width: columns as stored.
        orientation: EXIF orientation, 1 (as stored) to 8.
    """

    kind: str
    mode: str
    height: int
    width: int
    orientation: int

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width after the EXIF orientation."""
        if self.orientation >= 5:
            return self.width, self.height
        return self.height, self.width


def read_header(data: bytes) -> Header:
    """Read the header of a JPEG or PNG file.

    Raises:
        BadFileError: ``empty_file``, ``unreadable``, or ``too_large`` for more pixels than Pillow
            lets through (178,956,970), refused before any memory is taken for them.
    """
    if not data:
        raise BadFileError("empty_file", "0 bytes")
    try:
        with warnings.catch_warnings():
            # Pillow already warns at half of its limit.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        # getexif() of a PNG without EXIF would decode all of it to look behind the pixels.
        has_exif = image.format != "PNG" or "exif" in image.info
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if has_exif else 1
    except Image.DecompressionBombError as error:
        raise BadFileError("too_large", str(error)) from error
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged headers.
        raise BadFileError("unreadable", "not a JPEG or PNG file, or its header is cut") from error
    if orientation not in range(1, 9):
        orientation = 1
    kind = "PNG" if image.format == "PNG" else "JPEG"
    return Header(kind, image.mode, image.height, image.width, orientation)


def orient(pixels: npt.NDArray, orientation: int) -> npt.NDArray:
    """Turn stored pixels (H, W[, C]) into the picture that is to be seen (EXIF 2.3, tag 0x112)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def unorient(pixels: npt.NDArray, orientation: int) -> npt.NDArray:
    """Undo :func:`orient`; only the two quarter turns are not their own inverse."""
    return orient(pixels, {6: 8, 8: 6}.get(orientation, orientation))


def scaled_size(height: int, width: int, scale: Fraction) -> tuple[int, int]:
    """Return the size after scaling: every side rounded up, as libjpeg does."""
    return ceil(height * scale), ceil(width * scale)


def decode_image(data: bytes, header: Header, scale: Fraction) -> tuple[npt.NDArray[np.uint8], str]:
    """Decode an image at a fraction of its size, as stored (no EXIF orientation).

    Args:
        data: the whole file.
        header: from :func:`read_header`.
        scale: more than 0, at most 1.

    Returns:
        BGR pixels of shape (ceil(H * scale), ceil(W * scale), 3), and what the decoder complained
        of (an empty string when all is well).

    Raises:
        BadFileError: ``unreadable`` when the pixels cannot be decoded or some are missing.
    """
    step = _step(scale)
    if header.kind == "JPEG":
        pixels, complaint = _decode(data, _REDUCED[step] | cv2.IMREAD_IGNORE_ORIENTATION)
    else:
        pixels, complaint = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        pixels = _reduce(pixels, step)
    return _shrink(pixels, scaled_size(header.height, header.width, scale)), complaint


def decode_mask(data: bytes, header: Header) -> tuple[npt.NDArray, str]:
    """Decode a mask as it is, in channels, depth and orientation.

    Args:
        data: the whole file.
        header: from :func:`read_header`.

    Returns:
        (H, W) or (H, W, 3 or 4), uint8 or uint16, and what the decoder complained of.

    Raises:
        BadFileError: ``unreadable`` when the pixels cannot be decoded or some are missing.
    """
    if data[24:26] == _GREY_OF_8_BITS and data[37:41] == b"IDAT" and data.endswith(_PNG_END):
        # Pixels and nothing else, as the official masks are: many times as fast as OpenCV, which
        # reads, or explains, what this decoder refuses.
        with suppress(Exception):
            size = header.height, header.width
            return kornia_rs.io.decode_image_png_u8(data, size, "mono")[:, :, 0], ""
    return _decode(data, cv2.IMREAD_UNCHANGED)


def resize_mask(mask: npt.NDArray[np.bool_], scale: Fraction) -> npt.NDArray[np.bool_]:
    """Scale a mask exactly as :func:`decode_image` scales its image.

    Args:
        mask: (H, W), as stored.
        scale: more than 0, at most 1.

    Returns:
        (ceil(H * scale), ceil(W * scale)): pixels at least half covered by the lesion.
    """
    if scale == 1:
        return mask
    height, width = mask.shape
    reduced = _reduce(mask.view(np.uint8) * np.uint8(255), _step(scale))
    return _shrink(reduced, scaled_size(height, width, scale)) >= 128


def encode_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode BGR pixels as JPEG of quality 95."""
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes()


def _step(scale: Fraction) -> int:
    """Return the largest k whose DCT-scaled picture is not smaller than the target."""
    return max(k for k in _REDUCED if scale * k <= 1)


def _reduce(pixels: npt.NDArray, k: int) -> npt.NDArray:
    """Average blocks of k x k pixels; the last ones are filled up by repeating the edge."""
    if k == 1:
        return pixels
    height, width = pixels.shape[:2]
    if height % k or width % k:
        pixels = cv2.copyMakeBorder(pixels, 0, -height % k, 0, -width % k, cv2.BORDER_REPLICATE)
    return _shrink(pixels, (pixels.shape[0] // k, pixels.shape[1] // k))


def _shrink(pixels: npt.NDArray, size: tuple[int, int]) -> npt.NDArray:
    """Average over pixel areas; ``size`` is (height, width)."""
    if pixels.shape[:2] == size:
        return pixels
    return cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)


def _decode(data: bytes, flags: int) -> tuple[npt.NDArray, str]:
    """Decode with OpenCV; return the pixels and the decoder's messages."""
    with _captured_stderr() as log:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            pixels = None
        log.seek(0)
        messages = " ".join(log.read().decode(errors="replace").split())
    if pixels is None or _DAMAGE in messages:
        raise BadFileError("unreadable", messages or "cut short or damaged")
    return pixels, messages


@contextmanager
def _captured_stderr() -> Iterator[IO[bytes]]:
    """Collect what C libraries print: libjpeg and libpng report damage nowhere else."""
    log = _log()
    log.seek(0)
    log.truncate()
    saved = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield log
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@cache
def _log() -> IO[bytes]:
    """Return a file for all that this process collects; a new one each time would take longer."""
    return tempfile.TemporaryFile()
