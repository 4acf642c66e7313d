"""Conversion against the usual recipe, and how it grows with the number of images."""

import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from lesion_d2.benchmark.data import (
    Archive,
    draw_archive,
    given_pairs,
    link_pairs,
    open_archive,
    pairs_of,
)
from lesion_d2.benchmark.memory import Peak, peak_memory
from lesion_d2.benchmark.options import Options
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals.opencv_recipe import convert_with_opencv
from lesion_d2.benchmark.timing import Contender, alternate
from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.convert.pairs import Pair

OPENCV, FLOOR = "OpenCV recipe", "floor: entropy decoding"
# Pictures for the growth are small, and so many different ones are drawn.
GROWTH_SIZES = ((192, 256),)
GROWTH_PICTURES = 100


def run(options: Options) -> tuple[str, list[Section]]:
    """Measure; return the device, and the results."""
    sections = [_against_recipe(options)]
    if options.growth:
        sections.append(_growth(options, sorted(options.growth)))
    return "cpu", sections


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


def _against_recipe(options: Options) -> Section:
    output = options.folder / "output"
    archive = open_archive(options, repeat=True)
    repeats = options.dataset and options.images > len(given_pairs(options.dataset))
    work: dict[str, partial[None]] = {}
    # Pictures that come again are near-duplicates, but not what the search for them is for.
    for group in [False] if repeats else [True, False]:
        for workers, name in [(1, "1 worker"), (2, "2 workers")]:
            name = f"lesion_d2, {name}{'' if group else ', --no-group'}"
            work[name] = partial(convert_quietly, archive, output, workers, group)
    work[OPENCV] = partial(convert_with_opencv, *archive, output)
    work[FLOOR] = partial(read_entropy_codes, pairs_of(archive))
    seconds, peaks = _measure(options, work, output, "converting", warm_up=True)
    title = f"conversion of {options.images} images, --resize original"
    return Section(title, "image", options.images, seconds, (OPENCV, FLOOR), peaks)


def _growth(options: Options, counts: list[int]) -> Section:
    output = options.folder / "output"
    if options.dataset:
        pairs = given_pairs(options.dataset)
    else:
        drawn = min(counts[-1], GROWTH_PICTURES)
        pairs = pairs_of(draw_archive(options.folder / "growth", drawn, GROWTH_SIZES))
    work = {}
    for count in counts:
        archive = link_pairs(pairs, options.folder / f"growth_{count}", count, repeat=True)
        work[f"{count} images"] = partial(convert_quietly, archive, output, 1, False)
    seconds, peaks = _measure(options, work, output, "growing", warm_up=False)
    names = dict(zip(work, counts, strict=True))
    title = "growth, 1 worker, without the search for near-duplicates"
    return Section(title, "image", names, seconds, (f"{counts[0]} images",), peaks)


def _measure(
    options: Options, work: dict[str, partial[None]], output: Path, desc: str, warm_up: bool
) -> tuple[dict[str, list[float]], dict[str, Peak]]:
    """Return the seconds of each round and the memory, of work that writes into ``output``."""
    remove: Callable[[], None] = partial(shutil.rmtree, output, ignore_errors=True)
    peaks = {}
    for name, run in work.items() if options.memory else ():
        remove()
        peaks[name] = peak_memory(run.func, *run.args)
    contenders = [Contender(name, run, remove) for name, run in work.items()]
    return alternate(contenders, options.repeats, desc, warm_up=warm_up), peaks
