"""JPEG: decoding that refuses what libjpeg only warns of.

libjpeg makes up the pixels that a damaged file lacks, and warns. Pillow does not pass the warnings
on and OpenCV prints them; simplejpeg turns the first into an exception.
"""

import re
from math import ceil

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from lesion_d2.images.source import BadFileError

# As many as libtiff reads; a progressive file has about ten. Each goes over the whole picture.
MAX_SCANS = 100
# Below this side two of libjpeg's scales give one size, and simplejpeg is asked by size.
_SMALLEST_SCALED = 8
# Markers without a segment (ITU-T T.81, table B.1): TEM, RST0 to RST7.
_BARE = {0x01, *range(0xD0, 0xD8)}
_SOI, _EOI, _SOS, _APP0 = 0xD8, 0xD9, 0xDA, 0xE0
_SEQUENTIAL = {0xC0, 0xC1}
# Markers that end the pixels of a scan or stand between segments: not RST0 to RST7.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")


def decode_jpeg(
    data: bytes, mode: str, size: tuple[int, int], step: int
) -> tuple[npt.NDArray[np.uint8], str]:
    """Decode a JPEG file at 1/``step`` of its sides, as stored.

    Args:
        data: the whole file.
        mode: Pillow's name of the pixel format: ``RGB``, ``L`` or ``CMYK``.
        size: height and width of the whole picture.
        step: 1, 2, 4 or 8.

    Returns:
        BGR pixels of shape (ceil(H / step), ceil(W / step), 3), in mode ``L`` without the last
        axis, and libjpeg's warning of something odd that costs no pixel (an empty string when all
        is well).

    Raises:
        BadFileError: ``unreadable`` when it cannot be decoded, pixels are missing, or it has more
            than ``MAX_SCANS`` scans.
    """
    if _has_many_scans(data):
        raise BadFileError("unreadable", f"a JPEG of more than {MAX_SCANS} scans; save it anew")
    colours = {"L": "GRAY", "CMYK": "CMYK"}.get(mode, "BGR")
    expected = (ceil(size[0] / step), ceil(size[1] / step))
    least = (0, 0) if step == 1 else expected
    warning = ""
    try:
        pixels = _decode(data, colours, least)
    except BadFileError as error:
        tidied = _tidied(data)
        if tidied is None:
            raise
        warning = str(error)
        pixels = _decode(tidied, colours, least)
    if pixels.shape[:2] != expected:
        raise BadFileError("unreadable", "it gives two sizes for one picture")
    if mode == "L":
        return pixels[:, :, 0], warning
    if mode == "CMYK":  # as Pillow does: stored inverted, whether Adobe's marker is there or not
        rgb = Image.fromarray(255 - pixels, "CMYK").convert("RGB")
        return np.asarray(rgb)[:, :, ::-1], warning
    return pixels, warning


def can_be_scaled(size: tuple[int, int]) -> bool:
    """Say whether :func:`decode_jpeg` takes a step above 1 for a picture of this size."""
    return min(size) >= _SMALLEST_SCALED


def _decode(data: bytes, colours: str, least: tuple[int, int]) -> npt.NDArray[np.uint8]:
    try:
        return simplejpeg.decode_jpeg(data, colours, min_height=least[0], min_width=least[1])
    except Exception as error:
        raise BadFileError("unreadable", str(error)) from error


def _has_many_scans(data: bytes) -> bool:
    """Tell whether a file's first picture has more than ``MAX_SCANS`` scans."""
    if data.count(bytes([0xFF, _SOS])) <= MAX_SCANS:  # what is between or behind counts as well
        return False
    position, scans = 2, 0
    while scans <= MAX_SCANS and (found := _MARKER.search(data, position)):
        marker = found[1][0]
        if marker in (_SOI, _EOI):
            return False
        scans += marker == _SOS
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + max(2, length)
    return scans > MAX_SCANS


def _tidied(data: bytes) -> bytes | None:
    """Return the file without what libjpeg warns of in a header that it reads all the same.

    Bytes between two segments are dropped, an unknown revision of JFIF becomes 1, and scan
    parameters that a sequential file has no use for become what they must be. None if there is
    nothing of that kind, or no scan.
    """
    pieces = [data[:2]]
    position, sequential = 2, False
    while (position := data.find(b"\xff", position)) >= 0:
        marker = data[position + 1] if position + 1 < len(data) else _EOI
        if marker in (_SOI, _EOI):
            return None
        if marker == 0xFF or marker == 0 or marker in _BARE:
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = bytearray(data[position : position + 2 + length])
        if len(segment) < 2 + length or length < 2:
            return None
        position += len(segment)
        if marker == _APP0 and segment[4:9] == b"JFIF\0" and length >= 9:
            segment[9] = 1
        elif marker in _SEQUENTIAL:
            sequential = True
        elif marker == _SOS and sequential:
            segment[-3:] = bytes([0, 63, 0])
        pieces.append(bytes(segment))
        if marker == _SOS:
            tidied = b"".join(pieces) + data[position:]
            return tidied if tidied != data else None
    return None
