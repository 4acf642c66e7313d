"""The one way to read an image or mask: its header first, then its pixels.

Whatever is wrong with a file, and whatever a library raises over it, becomes a
:class:`~lesion_d2.images.source.BadFileError`.
"""

import io
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin

from lesion_d2.images.dicom import open_dicom
from lesion_d2.images.jpeg import can_be_scaled, decode_jpeg
from lesion_d2.images.png import check_png, decode_grey, without_pixels
from lesion_d2.images.scaling import STEPS, orient, reduce, scaled_size, shrink, step_of
from lesion_d2.images.source import BadFileError, image_format, read_source

MAX_PIXELS = 178_956_970  # twice what Pillow warns of
# What Pillow has to say of odd files: each is read exactly, or refused. Not inside a block that
# puts the filters back afterwards: that is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Header:
    """What a file says about itself before any pixel is decoded.

    Attributes:
        kind: its format, by Pillow's name, or ``DICOM``.
        mode: Pillow's name of the pixel format, such as ``RGB``, ``L`` or ``P``.
        height: rows as stored; ``width`` are the columns.
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

    def scale_for(self, enough: int) -> Fraction:
        """Return the least of 1, 1/2, 1/4 and 1/8 that leaves ``enough`` pixels a side, else 1."""
        shortest = min(self.height, self.width)
        return Fraction(1, next((k for k in STEPS if k * enough <= shortest), 1))


def read_header(data: bytes) -> Header:
    """Read the header of an image file.

    Raises:
        BadFileError: ``empty_file``, ``unreadable``, or ``too_large`` for more than ``MAX_PIXELS``
            pixels, refused before any memory is taken for them.
    """
    kind = image_format(data)
    with _opened(without_pixels(data) if kind == "PNG" else data, kind) as image:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _check_whole(image, data)
        return Header(kind, image.mode, image.height, image.width, _orientation(image))


def _orientation(image: Image.Image) -> int:
    """Return what Pillow finds in an EXIF block, ImageMagick's raw profile or XMP.

    What cannot be read turns nothing. Pillow turns a TIFF by itself, so that is upright.
    """
    if image.format == "TIFF":
        return 1
    try:
        # Not the method of PngImageFile, which decodes the pixels first.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return int(orientation) if orientation in range(1, 9) else 1
    except Exception:  # Pillow's parsers raise nearly anything on a damaged block
        return 1


def decode_image(data: bytes, header: Header, scale: Fraction) -> tuple[npt.NDArray[np.uint8], str]:
    """Decode an image at a fraction of its size, as stored (not yet turned).

    Args:
        data: the whole file.
        header: of it.
        scale: more than 0, at most 1.

    Returns:
        BGR pixels of shape (ceil(H * scale), ceil(W * scale), 3), and what the decoder found odd
        but harmless (an empty string when all is well). Alpha is dropped, of 12 or 16 bits the
        upper 8 are taken, of several pictures the first.

    Raises:
        BadFileError: ``unreadable`` when the pixels cannot be decoded, some are missing, or they
            are grey of 32 bits.
    """
    size, step, oddity = (header.height, header.width), step_of(scale), ""
    if header.kind == "JPEG":
        decoded = step if can_be_scaled(size) else 1
        pixels, oddity = decode_jpeg(data, header.mode, size, decoded)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        step //= decoded
    else:
        pixels = _decode(data, header, _to_bgr)
    return shrink(reduce(pixels, step), scaled_size(*size, scale)), oddity


def decode_mask(data: bytes, header: Header) -> tuple[npt.NDArray, str]:
    """Decode the whole file of a mask as it is, in channels and depth, as stored (not yet turned).

    Returns:
        (H, W) or (H, W, 3 or 4), uint8 or uint16, a palette as its colours, and what the decoder
        found odd but harmless.

    Raises:
        BadFileError: ``unreadable`` when the pixels cannot be decoded or some are missing.
    """
    size = (header.height, header.width)
    if header.kind == "JPEG":
        return decode_jpeg(data, header.mode, size, 1)
    if header.kind == "PNG":
        grey = decode_grey(data, size)
        if grey is not None:
            return grey, ""
    return _decode(data, header, _to_values), ""


def read_image(
    path: Path, enough: int = sys.maxsize
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Read an image as it is to be seen.

    A JPEG that has many more than ``enough`` pixels a side is decoded at 1/2, 1/4 or 1/8 of its
    sides, not below this; that takes a fraction of the time.

    Returns:
        BGR pixels, uint8 of shape (h, w, 3), and the (height, width) of the whole image.

    Raises:
        BadFileError: it cannot be read, or is damaged.
    """
    return decode_upright(read_source(path), enough)


def decode_upright(
    data: bytes, enough: int = sys.maxsize
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Decode the bytes of an image file as :func:`read_image` does the file."""
    header = read_header(data)
    scale = header.scale_for(enough) if header.kind == "JPEG" else Fraction(1)
    pixels, _ = decode_image(data, header, scale)
    return np.ascontiguousarray(orient(pixels, header.orientation)), header.shown_size


def _decode(
    data: bytes, header: Header, convert: Callable[[Image.Image], npt.NDArray]
) -> npt.NDArray:
    if header.kind == "PNG":
        check_png(data)
    with _opened(data, header.kind) as image:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _check_coverage(image)
        pixels = convert(image)
    if pixels.shape[:2] != (header.height, header.width):
        raise BadFileError("unreadable", "it gives two sizes for one picture")
    return pixels


def _check_whole(image: TiffImagePlugin.TiffImageFile, data: bytes) -> None:
    """Refuse a TIFF whose first picture is a smaller copy of another, as in a camera's raw file.

    By NewSubfileType (TIFF 6.0, page 36), DNGVersion (Adobe's DNG 1.7) or the mark of a CR2.
    """
    if image.tag_v2.get(254, 0) & 1 or 50706 in image.tag_v2 or data[8:10] == b"CR":
        detail = "its first picture is a preview, as in a raw file; save it as JPEG, PNG or TIFF"
        raise BadFileError("unreadable", detail)


def _check_coverage(image: TiffImagePlugin.TiffImageFile) -> None:
    """Refuse a TIFF whose strips or tiles leave a part of it out: Pillow makes that part black."""
    width, height = (image.tag_v2[tag] for tag in (256, 257))  # as stored
    places = {tile[1] or (0, 0, width, height) for tile in image.tile}
    covered = sum(
        (min(right, width) - left) * (min(bottom, height) - top)
        for left, top, right, bottom in places
    )
    if covered < width * height:
        raise BadFileError("unreadable", "rows of pixels are missing")


def _to_bgr(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode == "F" or image.mode.startswith("I"):
        bits = _bits(image)
        if bits == 32:  # whole numbers or fractions, of any range
            detail = "grey of 32 bits does not say what is white; save it with 8 bits"
            raise BadFileError("unreadable", detail)
        grey = (_deep(image) >> (bits - 8)).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])


def _to_values(image: Image.Image) -> npt.NDArray:
    if image.mode.startswith("I"):
        return _deep(image)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    has_alpha = "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "La", "RGBa")
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _deep(image: Image.Image) -> npt.NDArray[np.uint16]:
    """Return the pixels of a grey image of up to 16 bits; Pillow may have read them into 32."""
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise BadFileError("unreadable", "grey of 32 bits; convert it to 8 first")
    deep = pixels.astype(np.uint16)
    # PhotometricInterpretation 0: white is zero. Pillow turns such pixels of 8 bits only.
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0:
        return ((1 << min(_bits(image), 16)) - 1 - deep).astype(np.uint16)
    return deep


def _bits(image: Image.Image) -> int:
    """Return the bits of a deep grey pixel in the file."""
    return image.tag_v2[258][0] if isinstance(image, TiffImagePlugin.TiffImageFile) else 16


@contextmanager
def _opened(data: bytes, kind: str) -> Iterator[Image.Image]:
    """Open a file with Pillow; what it raises here or in the block becomes a BadFileError."""
    try:
        if kind == "DICOM":
            image = open_dicom(data, MAX_PIXELS)
        else:
            if kind == "HEIF":
                try:
                    import pillow_heif
                except ImportError as error:
                    detail = "a HEIC file; pip install pillow-heif to read it"
                    raise BadFileError("unreadable", detail) from error
                pillow_heif.register_heif_opener()
            image = Image.open(io.BytesIO(data), formats=(kind,))
        if image.height * image.width > MAX_PIXELS:
            raise BadFileError("too_large", f"{image.height * image.width:,} pixels")
        with image:
            yield image
    except BadFileError:
        raise
    except Image.DecompressionBombError as error:
        raise BadFileError("too_large", str(error)) from error
    except Image.UnidentifiedImageError as error:
        detail = f"begins like {kind}, but its header is damaged"
        raise BadFileError("unreadable", detail) from error
    except Exception as error:  # parsers of damaged files raise nearly anything
        detail = str(error) or type(error).__name__
        raise BadFileError("unreadable", f"{kind}: {detail}") from error
