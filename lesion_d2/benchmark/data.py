"""Pictures to work on: drawn, or those of a given folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog

from lesion_d2.benchmark.options import Common
from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.convert.pairs import Pair, find_pairs
from lesion_d2.data.datasets import register_dataset
from lesion_d2.errors import LesionError
from lesion_d2.parallel import available_cpus
from lesion_d2.synthetic import write_archive
from lesion_d2.synthetic.archive import IMAGES, MASKS

Archive = tuple[Path, Path]  # folder of images, folder of masks


def open_archive(common: Common, *, repeat: bool = False) -> Archive:
    """Return folders with as many originals and masks as asked for.

    Args:
        common: options of all benchmarks; its data set is an archive.
        repeat: let the pairs come again under other ids when there are not enough.

    Raises:
        LesionError: if ``common.dataset`` is not an archive or has fewer pairs.
    """
    root = common.folder / "archive"
    if not common.dataset:
        return draw_archive(root, common.images, common.sizes)
    return link_pairs(given_pairs(common.dataset), root, common.images, repeat=repeat)


def draw_archive(root: Path, count: int, sizes: Sequence[tuple[int, int]]) -> Archive:
    """Draw ``count`` pictures."""
    write_archive(root, count, sizes=sizes, workers=available_cpus())
    return root / IMAGES, root / MASKS


def link_pairs(pairs: list[Pair], root: Path, count: int, *, repeat: bool = False) -> Archive:
    """Return folders of links to the first ``count`` pairs.

    Args:
        pairs: of an archive.
        root: folder to create them in.
        count: how many.
        repeat: let the pairs come again under other ids when there are not enough.

    Raises:
        LesionError: if there are not enough.
    """
    if count > len(pairs) and not repeat:
        raise LesionError(f"--images: {count} asked for, but the data set has {len(pairs)} only")
    folders = root / IMAGES, root / MASKS
    for folder in folders:
        folder.mkdir(parents=True)
    for number in range(count):
        pair = pairs[number % len(pairs)]
        name = f"ISIC_{number:07d}" if repeat else pair.isic_id
        image, mask = pair.image.path.resolve(), pair.mask.path.resolve()
        (folders[0] / f"{name}{image.suffix}").symlink_to(image)
        (folders[1] / f"{name}_segmentation{mask.suffix}").symlink_to(mask)
    return folders


def pairs_of(archive: Archive) -> list[Pair]:
    """Return the pairs of an archive."""
    return find_pairs(*archive)[0]


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
    pairs = pairs_of(archive)
    for pair in pairs:
        if pair.image.path.suffix != ".jpg":
            raise LesionError(f"--dataset: {pair.image.path}: the recipes read .jpg images only")
    return pairs


def converted(common: Common, split: str) -> Path:
    """Return a converted data set: the given one, or drawn pictures, all of them in ``split``.

    Raises:
        LesionError: if ``common.dataset`` is not a converted data set.
    """
    if common.dataset:
        if not (common.dataset / f"{split}.json").is_file():
            raise LesionError(
                f"--dataset: {common.dataset}: holds no {split}.json; give a folder that "
                "tools/convert_isic.py wrote"
            )
        return common.dataset
    archive = draw_archive(common.folder / "archive", common.images, common.sizes)
    root = common.folder / "converted"
    convert(
        ConvertOptions(
            {"all": archive},
            root,
            test_fraction=float(split == "test"),
            val_fraction=0,
            resize="none",
            group=False,
        )
    )
    return root


def test_records(common: Common) -> list[dict[str, Any]]:
    """Return the dataset dicts of the first test images.

    Raises:
        LesionError: if there are fewer than asked for.
    """
    register_dataset("benchmark", converted(common, "test"))
    records = DatasetCatalog.get("benchmark_test")
    if len(records) < common.images:
        raise LesionError(
            f"--images: {common.images} asked for, but the test split has {len(records)} only"
        )
    return records[: common.images]
