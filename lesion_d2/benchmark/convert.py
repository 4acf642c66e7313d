"""Conversion against the usual recipes, and how it grows with the number of images."""

import os
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

from lesion_d2.benchmark.data import (
    Archive,
    draw_archive,
    given_pairs,
    link_pairs,
    open_archive,
    pairs_of,
)
from lesion_d2.benchmark.floors import read_entropy_codes
from lesion_d2.benchmark.memory import Peak, peak_memory
from lesion_d2.benchmark.options import Common, check_count
from lesion_d2.benchmark.report import Section
from lesion_d2.benchmark.rivals.opencv_recipe import convert_with_opencv
from lesion_d2.benchmark.rivals.skimage_recipe import check_skimage, convert_with_skimage
from lesion_d2.benchmark.timing import Contender, alternate
from lesion_d2.commands.convert import ConvertOptions, convert

OPENCV, SKIMAGE, FLOOR = "OpenCV recipe", "scikit-image recipe", "floor: entropy decoding"
# Pictures for the growth are small, and so many different ones are drawn.
GROWTH_SIZES = ((192, 256),)
GROWTH_PICTURES = 100


def run(
    common: Common, growth: Sequence[int], grouped_growth: bool, scikit_image: bool
) -> tuple[str, list[Section]]:
    """Measure.

    Args:
        common: options of all benchmarks; its data set is an archive.
        growth: numbers of images.
        grouped_growth: search for near-duplicates there, too; every picture is then another one.
        scikit_image: measure the recipe with scikit-image.

    Returns:
        the device, and the results.
    """
    for count in growth:
        check_count("--growth", count)
    if scikit_image:
        check_skimage()
    sections = [_against_recipes(common, scikit_image)]
    if growth:
        sections.append(_growth(common, sorted(growth), grouped_growth))
    return "cpu", sections


def convert_quietly(archive: Archive, output: Path, workers: int, group: bool) -> None:
    """Convert as tools/convert_isic.py does, without a progress bar."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        convert(ConvertOptions({"all": archive}, output, workers=workers, group=group))


def _against_recipes(common: Common, scikit_image: bool) -> Section:
    output = common.folder / "output"
    archive = open_archive(common, repeat=True)
    work = {}
    # Pictures that come again are near-duplicates, but not what the search for them is for.
    for group in [False] if _repeats(common) else [True, False]:
        for workers, name in [(1, "1 worker"), (2, "2 workers")]:
            name = f"lesion_d2, {name}{'' if group else ', --no-group'}"
            work[name] = partial(convert_quietly, archive, output, workers, group)
    rivals = {
        OPENCV: partial(convert_with_opencv, *archive, output),
        SKIMAGE: partial(convert_with_skimage, *archive, output),
        FLOOR: partial(read_entropy_codes, pairs_of(archive)),
    }
    if not scikit_image:
        del rivals[SKIMAGE]
    work |= rivals
    peaks = {name: _peak(run, output) for name, run in work.items() if common.memory}
    contenders = [Contender(name, run, partial(_remove, output)) for name, run in work.items()]
    seconds = alternate(contenders, common.repeats, "converting")
    title = f"conversion of {common.images} images, --resize original"
    return Section(title, "image", common.images, seconds, tuple(rivals), peaks)


def _repeats(common: Common) -> bool:
    return common.dataset is not None and common.images > len(given_pairs(common.dataset))


def _growth(common: Common, counts: list[int], group: bool) -> Section:
    output = common.folder / "output"
    largest = counts[-1]
    if common.dataset:
        pairs = given_pairs(common.dataset)
    else:
        drawn = largest if group else min(largest, GROWTH_PICTURES)
        pairs = pairs_of(draw_archive(common.folder / "growth", drawn, GROWTH_SIZES))
    work = {}
    for count in counts:
        archive = link_pairs(pairs, common.folder / f"growth_{count}", count, repeat=not group)
        work[f"{count} images"] = partial(convert_quietly, archive, output, 1, group)
    peaks = {name: _peak(run, output) for name, run in work.items() if common.memory}
    contenders = [Contender(name, run, partial(_remove, output)) for name, run in work.items()]
    seconds = alternate(contenders, common.repeats, "growing", warm_up=False)
    names = dict(zip(work, counts, strict=True))
    title = f"growth, 1 worker, {'with' if group else 'without'} the search for near-duplicates"
    return Section(title, "image", names, seconds, (f"{counts[0]} images",), peaks)


def _peak(run: partial[None], output: Path) -> Peak:
    _remove(output)
    return peak_memory(run.func, *run.args)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
