"""PNG (ISO/IEC 15948): what Pillow does not check, and what it knows without the pixels."""

import io
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import kornia_rs.io
import numpy as np
import numpy.typing as npt

from lesion_d2.images.source import BadFileError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_GREY_OF_8_BITS = bytes([8, 0, 0, 0, 0])  # depth, colour type, compression, filter, no interlace
# First column and row, and steps, of the seven passes of an interlaced file (8.2).
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_PIECE = 2**20  # bytes that are decompressed at a time


class Chunk(NamedTuple):
    """A chunk of the file: its name, what it holds, and whether its checksum is right."""

    name: bytes
    content: memoryview
    whole: bool


def chunks(data: bytes, *, verify: bool) -> Iterator[Chunk]:
    """Yield the chunks up to IEND.

    Args:
        data: the whole file.
        verify: compute the checksums; without, all count as right.

    Raises:
        BadFileError: ``unreadable`` when one is longer than the file, or IEND is not there.
    """
    view = memoryview(data)
    position = len(_SIGNATURE)
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(view[position : position + 4], "big")
        if end + 4 > len(data):
            break
        name = bytes(view[position + 4 : position + 8])
        checksum = int.from_bytes(view[end : end + 4], "big")
        whole = not verify or zlib.crc32(view[position + 4 : end]) == checksum
        yield Chunk(name, view[position + 8 : end], whole)
        if name == b"IEND":
            return
        position = end + 4
    raise BadFileError("unreadable", "the file is cut short")


def without_pixels(data: bytes) -> bytes:
    """Return a PNG file that says of itself all that ``data`` does, and holds no pixel.

    Pillow would decode all pixels to look for an orientation behind them.
    """
    stream = io.BytesIO()
    stream.write(_SIGNATURE)
    for chunk in chunks(data, verify=False):
        if chunk.name not in (b"IDAT", b"IEND", *_ANIMATION):
            _write(stream, chunk.name, chunk.content)
    _write(stream, b"IDAT", b"")
    _write(stream, b"IEND", b"")
    return stream.getvalue()


def check_png(data: bytes) -> None:
    """Make sure that all pixels are there and undamaged.

    Raises:
        BadFileError: ``unreadable`` when a checksum is wrong or rows are missing.
    """
    header, packed = b"", []
    for chunk in chunks(data, verify=True):
        if not chunk.whole:
            name = chunk.name.decode("latin-1")
            raise BadFileError("unreadable", f"damaged: the checksum of {name} is wrong")
        if chunk.name == b"IHDR":
            header = bytes(chunk.content)
        elif chunk.name == b"IDAT":
            packed.append(chunk.content)
    expected = _unpacked_size(header)
    found, left = 0, b"".join(packed)
    inflate = zlib.decompressobj()
    try:
        while left and found < expected:
            found += len(inflate.decompress(left, _PIECE))
            left = inflate.unconsumed_tail
    except zlib.error as error:
        raise BadFileError("unreadable", f"damaged pixels ({error})") from error
    if found < expected:
        raise BadFileError("unreadable", "rows of pixels are missing")


def decode_grey(data: bytes, size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
    """Decode a file of 8-bit grey pixels and nothing else, as the official masks are.

    This takes an eighth of the time that Pillow does. Checksums and rows are checked.

    Args:
        data: the whole file.
        size: its height and width.

    Returns:
        (H, W), or None for a file of another kind or a damaged one.
    """
    if data[24:29] != _GREY_OF_8_BITS or data[37:41] != b"IDAT":
        return None
    with suppress(Exception):
        list(chunks(data, verify=False))
        return kornia_rs.io.decode_image_png_u8(data, size, "mono")[:, :, 0]
    return None


def _write(stream: io.BytesIO, name: bytes, content: bytes | memoryview) -> None:
    stream.write(len(content).to_bytes(4, "big") + name)
    stream.write(content)
    stream.write(zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big"))


def _unpacked_size(header: bytes) -> int:
    """Return the bytes of all rows, each with its filter type, from what IHDR holds."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _CHANNELS[header[9]]
    passes = _PASSES if header[12] else ((0, 0, 1, 1),)
    total = 0
    for x, y, step_x, step_y in passes:
        columns, rows = len(range(x, width, step_x)), len(range(y, height, step_y))
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total
