"""The leak search: images of converted data sets that are the same or show the same lesion.

What counts as the same lesion, and from which score on, is said in
:mod:`lesion_d2.images.duplicates`, where the converter takes it from, too.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from lesion_d2.data.converted import SPLITS, LesionImage, read_split
from lesion_d2.errors import LesionError
from lesion_d2.figures.style import DPI, PANEL_INCHES, image_pairs, show_image
from lesion_d2.images.duplicates import Signature, find_near_duplicates, signature
from lesion_d2.images.scaling import fit
from lesion_d2.parallel import map_in_processes

# From the strongest on; a pair is of the first kind that fits.
KINDS = ("same_bytes", "same_pixels", "near_duplicate")
PAIRS_A_ROW = 3
PAIRS_A_SHEET = 24


class Place(NamedTuple):
    """One split of one data set."""

    dataset: str
    split: str

    def __str__(self) -> str:
        return f"{self.dataset}_{self.split}"


class PlacedImage(NamedTuple):
    """An image and the split it is in."""

    place: Place
    image: LesionImage


class Twins(NamedTuple):
    """Two images that are the same or show the same lesion."""

    kind: str  # one of :data:`KINDS`
    first: PlacedImage  # the one read first: of the first data set, of train before val before test
    second: PlacedImage
    hash_distance: int  # bits in which the two hashes differ, 0 to 64
    score: int | None  # keypoints that fit; None for equal pixels, which need none


class _Traits(NamedTuple):
    """Digests of an image's file and of its decoded pixels, and its signature."""

    file: bytes
    pixels: bytes
    signature: Signature


def read_images(folders: Sequence[Path]) -> list[PlacedImage]:
    """Return the images of all splits of converted data sets, called after their folders.

    Raises:
        LesionError: a split's COCO file is missing or broken, a data set holds no image, or two
            have the same name.
    """
    images: dict[str, list[PlacedImage]] = {}
    for folder in folders:
        name = folder.absolute().name
        if name in images:
            raise LesionError(
                f"{folder}: is called {name} like the other data set, and the results tell "
                "them apart by name; rename it, or give a link of another name"
            )
        images[name] = [
            PlacedImage(Place(name, split), image)
            for split in SPLITS
            for image in read_split(folder, split)
        ]
        if not images[name]:
            raise LesionError(f"{folder}: holds no image; convert it with tools/convert_isic.py")
    return [image for of_one in images.values() for image in of_one]


def find_twins(images: Sequence[PlacedImage], workers: int) -> list[Twins]:
    """Find all pairs, across splits and inside them.

    They come strongest kind and highest score first, then in the order of ``images``, which also
    decides which image of a pair comes first. ``workers`` processes read the images.

    Raises:
        LesionError: an image cannot be read. All are read before it is raised.
    """
    traits = _read_all([placed.image for placed in images], workers)
    equal: dict[bytes, list[int]] = {}
    for index, trait in enumerate(traits):
        equal.setdefault(trait.pixels, []).append(index)
    found: dict[tuple[int, int], tuple[str, int, int | None]] = {}
    for members in equal.values():
        for i, j in combinations(members, 2):
            same = traits[i].file == traits[j].file
            found[i, j] = ("same_bytes" if same else "same_pixels", 0, None)

    # One image stands for all of equal pixels: many copies would crowd out other neighbours. The
    # names sort by id, as in the converter: at the margin the pairs depend on that order.
    names = {f"{images[same[0]].image.isic_id} {same[0]}": same for same in equal.values()}
    signatures = {name: traits[same[0]].signature for name, same in names.items()}
    for pair in find_near_duplicates(signatures):
        for i, j in product(names[pair.first], names[pair.second]):
            found[min(i, j), max(i, j)] = ("near_duplicate", pair.hash_distance, pair.score)
    twins = [
        Twins(kind, images[i], images[j], distance, score)
        for (i, j), (kind, distance, score) in sorted(found.items())
    ]
    return sorted(twins, key=lambda pair: (KINDS.index(pair.kind), -(pair.score or 0)))


def _read_all(images: list[LesionImage], workers: int) -> list[_Traits]:
    results = list(map_in_processes(_traits, images, workers, "reading", "image"))
    if broken := [result for result in results if isinstance(result, str)]:
        others = f"; {len(broken) - 1} other images are broken too" if len(broken) > 1 else ""
        raise LesionError(broken[0] + others)
    return [result for result in results if isinstance(result, _Traits)]


def _traits(image: LesionImage) -> _Traits | str:
    """Read one image; of one that cannot be read return what is wrong with it."""
    try:
        pixels = image.read_rgb()
    except LesionError as error:
        return str(error)
    return _Traits(
        hashlib.sha256(image.path.read_bytes()).digest(),
        hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest(),
        signature(np.ascontiguousarray(pixels[..., ::-1])),
    )


def count_leaks(images: Sequence[PlacedImage], twins: Sequence[Twins]) -> dict[str, Any]:
    """Count the images, the pairs by kind, and the images with a twin in training: ``leaks.json``.

    The data set of the first image is that of the training; ``twins`` are all pairs.
    """
    sizes = Counter(placed.place for placed in images)
    kinds = Counter((pair.first.place, pair.second.place, pair.kind) for pair in twins)
    training = Place(images[0].place.dataset, "train")
    affected: dict[Place, set[int]] = {place: set() for place in sizes if place != training}
    for pair in twins:
        for own, other in ((pair.first, pair.second), (pair.second, pair.first)):
            if other.place == training and own.place != training:
                affected[own.place].add(own.image.image_id)
    return {
        "format": 1,
        "images": {str(place): size for place, size in sizes.items()},
        "leaks": [
            {"first": str(first), "second": str(second)}
            | {kind: kinds[first, second, kind] for kind in KINDS}
            for first, second in combinations(sizes, 2)
        ],
        "inside_one_split": {
            kind: sum(kinds[place, place, kind] for place in sizes) for kind in KINDS
        },
        "training": str(training),
        "with_twin_in_training": {
            str(place): {
                "images": sizes[place],
                "with_twin": len(ids),
                "share": len(ids) / sizes[place],
            }
            for place, ids in affected.items()
        },
    }


def leaks_in_words(summary: dict[str, Any]) -> str:
    """Return the content of ``leaks.json`` as a table and sentences."""
    rows = [(f"{row['first']} - {row['second']}", row) for row in summary["leaks"]]
    rows.append(("inside one split (no leak)", summary["inside_one_split"]))
    cells = [[label, *(f"{row[kind]:,}" for kind in KINDS)] for label, row in rows]
    heads = ["", *(kind.replace("_", " ") for kind in KINDS)]
    align = ("left", *["right"] * len(KINDS))
    lines = [tabulate(cells, heads, "plain", colalign=align, disable_numparse=True)]
    lines += [
        f"{place}: {row['with_twin']:,} of {row['images']:,} images ({row['share']:.1%}) have a "
        f"twin in {summary['training']}"
        for place, row in summary["with_twin_in_training"].items()
    ]
    return "\n".join(lines)


def sheet_figures(pairs: Sequence[Twins], limit: int) -> Iterator[Figure]:
    """Draw contact sheets of up to 24 pairs in their order, at most ``limit``, to judge by eye.

    Raises:
        LesionError: an image file cannot be read.
    """
    for start in range(0, min(len(pairs), limit * PAIRS_A_SHEET), PAIRS_A_SHEET):
        part = pairs[start : start + PAIRS_A_SHEET]
        title = f"pairs across splits, {start + 1:,} to {start + len(part):,} of {len(pairs):,}"
        figure, axes = image_pairs(len(part), title, PAIRS_A_ROW)
        for panels, pair in zip(axes, part, strict=True):
            heads = (pair.kind.replace("_", " "), f"{pair.hash_distance} bits differ")
            if pair.score is not None:
                heads = (f"{heads[0]}, score {pair.score}", heads[1])
            # An image is no larger than its panel: a sheet holds 48.
            for ax, head, side in zip(panels, heads, (pair.first, pair.second), strict=True):
                title = f"{head}\n{side.image.isic_id}\n{side.place}"
                show_image(ax, fit(side.image.read_rgb(), PANEL_INCHES * DPI), title)
        yield figure
