"""PNG (ISO/IEC 15948): what Pillow does not check, and what it knows without the pixels."""

import zlib
from collections.abc import Iterator
from contextlib import suppress

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
_LEFT_OUT = (b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT")  # pixels, end, animation
_PIECE = 2**20  # bytes that are decompressed at a time


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield name, content and checksum of the chunks up to IEND; all must be there."""
    view = memoryview(data)
    position = len(_SIGNATURE)
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(view[position : position + 4], "big")
        if end + 4 > len(data):
            break
        name = bytes(view[position + 4 : position + 8])
        yield name, view[position + 8 : end], int.from_bytes(view[end : end + 4], "big")
        if name == b"IEND":
            return
        position = end + 4
    raise BadFileError("unreadable", "the file is cut short")


def without_pixels(data: bytes) -> bytes:
    """Return a PNG file that says of itself all that ``data`` does, and holds no pixel.

    Pillow would decode all pixels to look for an orientation behind them.
    """
    kept = [(name, bytes(content)) for name, content, _ in _chunks(data) if name not in _LEFT_OUT]
    pieces = [_SIGNATURE]
    for name, content in [*kept, (b"IDAT", b""), (b"IEND", b"")]:
        checksum = zlib.crc32(content, zlib.crc32(name))
        pieces += [len(content).to_bytes(4, "big"), name, content, checksum.to_bytes(4, "big")]
    return b"".join(pieces)


def check_png(data: bytes) -> None:
    """Make sure that all pixels are there and undamaged.

    Raises:
        BadFileError: ``unreadable`` when a checksum is wrong or rows are missing.
    """
    header, packed = b"", []
    for name, content, checksum in _chunks(data):
        if zlib.crc32(content, zlib.crc32(name)) != checksum:
            named = name.decode("latin-1")
            raise BadFileError("unreadable", f"damaged: the checksum of {named} is wrong")
        if name == b"IHDR":
            header = bytes(content)
        elif name == b"IDAT":
            packed.append(content)
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

    This takes an eighth of the time that Pillow does. Checksums and rows are checked. The pixels
    have the shape ``size``, (H, W); None is for a file of another kind or a damaged one, and where
    kornia-rs is not installed, which prediction does without.
    """
    try:
        import kornia_rs.io
    except ModuleNotFoundError:
        return None
    if data[24:29] != _GREY_OF_8_BITS or data[37:41] != b"IDAT":
        return None
    with suppress(Exception):
        list(_chunks(data))
        return kornia_rs.io.decode_image_png_u8(data, size, "mono")[:, :, 0]
    return None


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
