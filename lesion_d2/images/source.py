"""The bytes of an image file, and the format that they are in."""

import os
import stat
from pathlib import Path
from typing import IO

# Every suffix of a file that counts as an image. What a file holds decides how it is read.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp",
    ".gif", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".dcm",
)  # fmt: skip
# More than any picture of 179 megapixels takes, even without compression.
MAX_BYTES = 640 * 2**20
# As many bytes as the signatures of all formats take.
_SIGNATURE_BYTES = 132
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
)
# Of ISO base media files, which videos are as well.
_BRANDS = (
    ((b"avif", b"avis"), "AVIF"),
    ((b"heic", b"heix", b"heim", b"heis", b"mif1"), "HEIF"),
)


class BadFileError(Exception):
    """A file that cannot be used, for a reason such as ``unreadable``, and what was seen."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_source(path: Path) -> bytes:
    """Return the bytes of an image file.

    Only a regular file that begins like an image is read: nothing waits for the writer of a FIFO,
    and no sparse file fills the memory.

    Raises:
        BadFileError: ``unreadable``, ``empty_file``, or ``too_large`` above ``MAX_BYTES``.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            os.scandir(path).close()  # says why it could not be searched
        if not stat.S_ISREG(mode):
            raise BadFileError("unreadable", "a folder, device or pipe, not a file")
        # It may have become a pipe since it was looked at.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as stream:
            return read_stream(stream, os.fstat(stream.fileno()).st_size)
    except (OSError, ValueError) as error:  # the latter for a null character in the path
        raise BadFileError("unreadable", getattr(error, "strerror", None) or str(error)) from error


def read_stream(stream: IO[bytes], size: int) -> bytes:
    """Return what a stream of ``size`` bytes holds, if it begins like an image.

    Raises:
        BadFileError: as :func:`read_source`.
    """
    if size > MAX_BYTES:
        raise BadFileError("too_large", f"{size:,} bytes, at most {MAX_BYTES:,} are read")
    start = stream.read(_SIGNATURE_BYTES)
    image_format(start)
    return start + stream.read(MAX_BYTES)


def image_format(data: bytes) -> str:
    """Return the format that the first bytes of a file show, by Pillow's name, or ``DICOM``.

    Raises:
        BadFileError: ``empty_file``, or ``unreadable`` when it is none of those read here.
    """
    if not data:
        raise BadFileError("empty_file", "0 bytes")
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        # Major brand, version and compatible brands, four bytes each.
        brands = data[8 : min(int.from_bytes(data[:4], "big"), _SIGNATURE_BYTES)]
        for names, kind in _BRANDS:
            if any(name in brands for name in names):
                return kind
    if data[128:132] == b"DICM":
        return "DICOM"
    known = "JPEG, PNG, BMP, TIFF, WebP, GIF, JPEG 2000, AVIF, HEIC or DICOM"
    raise BadFileError("unreadable", f"no {known} file")
