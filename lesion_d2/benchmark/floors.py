"""What decoding takes at least with the usual libraries: libjpeg-turbo and zlib."""

import zlib
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from lesion_d2.convert.pairs import Pair


def read_entropy_codes(pairs: Iterable[Pair]) -> None:
    """Undo the entropy coding of each JPEG and the deflation of each PNG, and nothing more.

    A JPEG decoded in grey at 1/8 has every Huffman code read, and a pixel made of each block's
    mean alone.
    """
    for pair in pairs:
        data = pair.image.path.read_bytes()
        if pair.image.path.suffix.lower() == ".png":
            inflate(data)
        else:
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
        inflate(pair.mask.path.read_bytes())


def inflate(png: bytes) -> bytes:
    """Return the filtered rows of a PNG file. Decoders with another inflation can take less."""
    return zlib.decompress(b"".join(_image_data(png)))


def _image_data(png: bytes) -> Iterator[bytes]:
    position = 8  # behind the file's signature
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        if png[position + 4 : position + 8] == b"IDAT":
            yield png[position + 8 : position + 8 + length]
        position += length + 12
