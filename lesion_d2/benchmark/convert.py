"""Conversion against the usual recipe."""

import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from lesion_d2.benchmark.data import Archive, Options, given_pairs, open_archive
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals import convert_with_opencv
from lesion_d2.benchmark.timing import alternate
from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.convert.pairs import Pair, find_pairs

OPENCV, FLOOR = "OpenCV recipe", "floor: entropy decoding"


def run(options: Options) -> tuple[str, list[Section]]:
    """Measure; return the device, and the results."""
    output = options.folder / "output"
    archive = open_archive(options, repeat=True)
    repeats = options.dataset and options.images > len(given_pairs(options.dataset))
    work: dict[str, Callable[[], None]] = {}
    # Pictures that come again are near-duplicates, but not what the search for them is for.
    for group in [False] if repeats else [True, False]:
        for workers, name in [(1, "1 worker"), (2, "2 workers")]:
            name = f"lesion_d2, {name}{'' if group else ', --no-group'}"
            work[name] = partial(convert_quietly, archive, output, workers, group)
    work[OPENCV] = partial(convert_with_opencv, *archive, output)
    work[FLOOR] = partial(read_entropy_codes, find_pairs(*archive)[0])

    def remove(name: str) -> None:
        shutil.rmtree(output, ignore_errors=True)

    seconds = alternate(work, options.repeats, "converting", prepare=remove)
    title = f"conversion of {options.images} images, --resize original"
    return "cpu", [Section(title, "image", options.images, seconds, (OPENCV, FLOOR))]


def convert_quietly(archive: Archive, output: Path, workers: int, group: bool) -> None:
    """Convert as tools/convert_isic.py does, without a progress bar."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        convert(ConvertOptions({"all": archive}, output, workers=workers, group=group))


def read_entropy_codes(pairs: Iterable[Pair]) -> None:
    """Undo the entropy coding of each JPEG and the deflation of each PNG, and nothing more.

    It is what decoding takes at least with libjpeg-turbo and zlib. A JPEG decoded in grey at 1/8
    has every Huffman code read, and a pixel made of each block's mean alone.
    """
    for pair in pairs:
        cv2.imdecode(np.fromfile(pair.image.path, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
        inflate(pair.mask.path.read_bytes())


def inflate(png: bytes) -> bytes:
    """Return the filtered rows of a PNG file. Decoders with another inflation can take less."""
    parts, position = [], 8  # behind the file's signature
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        if png[position + 4 : position + 8] == b"IDAT":
            parts.append(png[position + 8 : position + 8 + length])
        position += length + 12
    return zlib.decompress(b"".join(parts))
