"""Drawn pictures in every format that is read, ways to damage a file, and what is made of it."""

import io
import zlib
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from lesion_d2.images.reading import decode_image, decode_mask, read_header, read_image
from lesion_d2.images.source import BadFileError

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def drawn(height=40, width=56, seed=0):
    """Return a smooth, colourful RGB picture, uint8 of shape (height, width, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2).astype(int)
    return np.clip((smooth - 128) * 4 + 128, 0, 255).astype(np.uint8)


def encode(pixels, kind, **options):
    """Encode an array or a Pillow image as file content."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation):
    """Return EXIF data that holds just an orientation."""
    tags = Image.Exif()
    tags[0x112] = orientation
    return tags


def every_format(pixels):
    """Return {name: file content} of one picture in all formats, modes and kinds of packing."""
    image = Image.fromarray(pixels)
    grey = np.asarray(image.convert("L"))
    deep = Image.fromarray(grey * np.uint16(257))
    alpha = Image.merge("RGBA", [*image.split(), Image.fromarray(grey)])
    plain = {name: image.convert(name) for name in ("RGB", "L", "1", "P", "LA", "CMYK")} | {
        "RGBA": alpha,
        "16 bits": deep,
    }
    kinds = {
        "JPEG": ("RGB", "L", "CMYK"),
        "PNG": ("RGB", "L", "1", "P", "LA", "RGBA", "16 bits"),
        "BMP": ("RGB", "L", "1", "P"),
        "TIFF": ("RGB", "L", "1", "P", "LA", "CMYK", "RGBA", "16 bits"),
        "GIF": ("P", "L"),
    }
    files = {
        f"{kind} {mode}": encode(plain[mode], kind)
        for kind, modes in kinds.items()
        for mode in modes
    }
    return files | {
        "progressive JPEG": encode(image, "JPEG", progressive=True),
        "JPEG with restarts": encode(image, "JPEG", restart_marker_blocks=3),
        "JPEG 4:4:4": encode(image, "JPEG", subsampling=0),
        "MPO": encode(image, "MPO", save_all=True, append_images=[image]),
        "TIFF LZW": encode(image, "TIFF", compression="tiff_lzw"),
        "TIFF deflate": encode(image, "TIFF", compression="tiff_adobe_deflate"),
        "WebP": encode(image, "WEBP"),
        "lossless WebP": encode(image, "WEBP", lossless=True),
        "JPEG 2000": encode(image, "JPEG2000"),
        "AVIF": encode(image, "AVIF"),
        "animated GIF": encode(
            image.convert("P"), "GIF", save_all=True, append_images=[image.rotate(180).convert("P")]
        ),
        "interlaced PNG": interlaced(pixels),
    }


def chunk(name, content):
    """Return one chunk of a PNG file."""
    checksum = zlib.crc32(name + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + name + content + checksum


def png_of(header, packed):
    """Return a PNG file of the content of IHDR and of IDAT."""
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png_header(height, width, *, depth=8, colour=2, interlaced=0):
    """Return the content of IHDR."""
    sizes = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return sizes + bytes([depth, colour, 0, 0, interlaced])


def interlaced(pixels):
    """Return an interlaced PNG file of an RGB picture."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = b"".join(
        b"\0" + row.tobytes()
        for x, y, across, down in [*passes, (0, 1, 1, 2)]
        for row in pixels[y::down, x::across]
    )
    return png_of(png_header(*pixels.shape[:2], interlaced=1), zlib.compress(rows))


def half_of_the_rows(pixels):
    """Return a PNG file whose checksums are right and whose last rows are not there."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels[: len(pixels) // 2])
    return png_of(png_header(*pixels.shape[:2]), zlib.compress(rows))


def zeroed(data, start=0.5, share=0.3):
    """Return the file with a block of zeros from ``start`` on."""
    first, count = int(len(data) * start), int(len(data) * share)
    return data[:first] + bytes(count) + data[first + count :]


def scan_of(jpeg):
    """Return where the pixels of a JPEG file begin."""
    scan = jpeg.index(b"\xff\xda")
    return scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")


def shown_by_pillow(data):
    """Return the BGR pixels of a file as Pillow turns them."""
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., ::-1]


def shown(data, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(data)
    return read_image(path)


def refused(data):
    """Return why a file is refused, by header, as an image and as a mask alike."""
    reasons = set()
    for read in (
        lambda: decode_image(data, read_header(data), Fraction(1)),
        lambda: decode_mask(data, read_header(data)),
    ):
        with pytest.raises(BadFileError) as caught:
            read()
        reasons.add((caught.value.reason, str(caught.value)))
    assert len(reasons) == 1
    return reasons.pop()
