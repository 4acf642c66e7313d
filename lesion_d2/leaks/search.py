"""Finding images of converted data sets that are the same or show the same lesion.

What counts as the same lesion, and from which score on, is said in
:mod:`lesion_d2.images.duplicates`, where the converter takes it from, too.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lesion_d2.data.converted import SPLITS, LesionImage, read_split
from lesion_d2.errors import LesionError
from lesion_d2.images.duplicates import Signature, find_near_duplicates, signature
from lesion_d2.parallel import map_in_processes

# From the strongest on; a pair is of the first kind that fits.
KINDS = ("same_bytes", "same_pixels", "near_duplicate")


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


@dataclass(frozen=True)
class Twins:
    """Two images that are the same or show the same lesion.

    Attributes:
        kind: one of :data:`KINDS`.
        first: the one read first: of the first data set, of train before val before test.
        second: the other.
        hash_distance: bits in which the two hashes differ, 0 to 64.
        score: keypoints that fit, as in :class:`~lesion_d2.images.duplicates.DuplicatePair`;
            None for equal pixels, which need none.
    """

    kind: str
    first: PlacedImage
    second: PlacedImage
    hash_distance: int
    score: int | None


class _Traits(NamedTuple):
    """Digests of an image's file and of its decoded pixels, and its signature."""

    file: bytes
    pixels: bytes
    signature: Signature


def read_images(folders: Sequence[Path]) -> list[PlacedImage]:
    """Return the images of all splits of converted data sets.

    Args:
        folders: one or two folders that ``tools/convert_isic.py`` wrote; a data set is called
            after its folder.

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

    Args:
        images: those of all splits. Their order decides which image of a pair comes first.
        workers: number of processes that read them; 1 stays in this one.

    Returns:
        the pairs, strongest kind and highest score first, then in the order of ``images``.

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
        data = image.path.read_bytes()
    except LesionError as error:
        return str(error)
    except OSError as error:
        return f"{image.path}: cannot be read ({error.strerror}); convert the data set again"
    return _Traits(
        hashlib.sha256(data).digest(),
        hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest(),
        signature(np.ascontiguousarray(pixels[..., ::-1])),
    )
