"""Registration of converted data sets in Detectron2's catalogs.

Importing this module registers the standard data set and each converted folder below
``$DETECTRON2_DATASETS``.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from lesion_d2.data.converted import SPLITS
from lesion_d2.errors import LesionError
from lesion_d2.images.run_lengths import check_rle

STANDARD_NAME = "isic2018"


def datasets_root() -> Path:
    """Return Detectron2's data folder: ``$DETECTRON2_DATASETS``, else ``datasets``."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets"))


def load_split(name: str, root: Path, split: str) -> list[dict[str, Any]]:
    """Read one split of a converted data set as Detectron2 dataset dicts.

    Args:
        name: the name the split is registered under.
        root: the folder that ``tools/convert_isic.py`` wrote.
        split: one of :data:`SPLITS`.

    Returns:
        one dict an image with Detectron2's standard keys and ``isic_id``.

    Raises:
        LesionError: if the split's JSON is missing or damaged, masks in it included.
    """
    json_file = root / f"{split}.json"
    if not json_file.is_file():
        raise LesionError(
            f"{json_file}: data set {name!r} has not been converted; create it with "
            f"`tools/convert_isic.py --images DIR --masks DIR --output {root}`"
        )
    try:
        records = load_coco_json(str(json_file), str(root), name)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise LesionError(
            f"{json_file}: is not the COCO file of a converted data set ({error!r}); convert again "
            "with --overwrite"
        ) from error
    for record in records:
        record["isic_id"] = Path(record["file_name"]).stem
        for annotation in record["annotations"]:
            if isinstance(rle := annotation.get("segmentation"), dict):
                try:
                    check_rle(rle, record["height"], record["width"])
                except LesionError as error:
                    raise LesionError(
                        f"{json_file}: {record['isic_id']}: {error}; convert again with --overwrite"
                    ) from error
    return records


def register_dataset(name: str, root: str | os.PathLike[str]) -> None:
    """Register ``<name>_train``, ``<name>_val`` and ``<name>_test`` of a converted folder.

    Registering a name again replaces it, so a notebook cell can run twice.

    Args:
        name: the prefix of the three names.
        root: the folder that ``tools/convert_isic.py`` wrote (or will write).
    """
    root = Path(root)
    for split in SPLITS:
        split_name = f"{name}_{split}"
        DatasetCatalog.pop(split_name, None)
        MetadataCatalog.pop(split_name, None)
        DatasetCatalog.register(split_name, partial(load_split, split_name, root, split))
        MetadataCatalog.get(split_name).set(
            json_file=str(root / f"{split}.json"),
            image_root=str(root),
            thing_classes=["lesion"],
            evaluator_type="lesion",
        )


def register_converted() -> None:
    """Register the standard data set and each converted folder below the data folder."""
    root = datasets_root()
    converted = {path.parent.name for path in root.glob("*/split.json")}
    for name in sorted(converted | {STANDARD_NAME}):
        register_dataset(name, root / name)


register_converted()
