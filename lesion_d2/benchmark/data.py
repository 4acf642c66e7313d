"""What a benchmark is told, and the pictures it works on: drawn, or those of a given folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.convert.pairs import Pair, find_pairs
from lesion_d2.errors import LesionError
from lesion_d2.synthetic import write_archive
from lesion_d2.synthetic.archive import IMAGES, MASKS

Archive = tuple[Path, Path]  # folder of images, folder of masks


@dataclass(frozen=True)
class Options:
    """Names are those of the command line."""

    folder: Path  # to work in; it is empty
    images: int  # how many to use
    sizes: Sequence[tuple[int, int]]  # (height, width) of drawn pictures, taken in turn
    repeats: int  # timed rounds
    threads: int  # of OpenCV and torch
    # To take images from; None draws some. For ``convert`` and ``load`` it holds an archive, else
    # it is a converted data set.
    dataset: Path | None = None
    batches: int = 8  # of a round of loading
    config_file: str = ""
    opts: Sequence[str] = ()
    weights: Path | None = None  # a checkpoint of the config; None leaves weights random
    runs: Sequence[str] = ()  # folders of trainings, or "pretrained"


def open_archive(options: Options, *, repeat: bool = False) -> Archive:
    """Return folders with as many originals and masks as asked for; see :func:`link_pairs`.

    Raises:
        LesionError: if ``options.dataset`` is not an archive or has fewer pairs.
    """
    root = options.folder / "archive"
    if options.dataset:
        return link_pairs(given_pairs(options.dataset), root, options.images, repeat=repeat)
    write_archive(root, options.images, sizes=options.sizes)
    return root / IMAGES, root / MASKS


def link_pairs(pairs: list[Pair], root: Path, count: int, *, repeat: bool = False) -> Archive:
    """Return folders in ``root`` of links to the first ``count`` pairs.

    With ``repeat`` they come again under other ids when there are not enough.

    Raises:
        LesionError: if there are not enough.
    """
    if count > len(pairs) and not repeat:
        raise LesionError(f"--images: {count} asked for, but the data set has {len(pairs)} only")
    archive = root / IMAGES, root / MASKS
    for folder in archive:
        folder.mkdir(parents=True)
    for number in range(count):
        pair = pairs[number % len(pairs)]
        name = f"ISIC_{number:07d}" if repeat else pair.isic_id
        image, mask = pair.image.path.resolve(), pair.mask.path.resolve()
        (archive[0] / f"{name}{image.suffix}").symlink_to(image)
        (archive[1] / f"{name}_segmentation{mask.suffix}").symlink_to(mask)
    return archive


def given_pairs(root: Path) -> list[Pair]:
    """Return the pairs of a folder that holds the two folders of an archive.

    Raises:
        LesionError: if it does not, or an image is not a JPEG, which the recipes expect.
    """
    archive = root / IMAGES, root / MASKS
    if not all(folder.is_dir() for folder in archive):
        raise LesionError(
            f"--dataset: {root}: give a folder that holds the folders {IMAGES} and {MASKS}"
        )
    pairs, *_ = find_pairs(*archive)
    for pair in pairs:
        if pair.image.place.suffix != ".jpg":
            raise LesionError(f"--dataset: {pair.image.path}: the recipes read .jpg images only")
    return pairs


def convert_archive(archive: Archive, root: Path, split: str, **options: Any) -> None:
    """Convert an archive to ``root``, all of it to one split, without a search for twins."""
    test_fraction = float(split == "test")
    options |= {"test_fraction": test_fraction, "val_fraction": 0, "group": False}
    convert(ConvertOptions({"all": archive}, root, **options))


def converted(options: Options, split: str) -> Path:
    """Return a converted data set: the given one, or drawn pictures, all of them in ``split``.

    Raises:
        LesionError: if ``options.dataset`` is not a converted data set.
    """
    if not options.dataset:
        root = options.folder / "converted"
        convert_archive(open_archive(options), root, split, resize="none")
        return root
    if not (options.dataset / f"{split}.json").is_file():
        raise LesionError(
            f"--dataset: {options.dataset}: holds no {split}.json; give a folder that "
            "tools/convert_isic.py wrote"
        )
    return options.dataset
