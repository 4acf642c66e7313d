"""Registration of data sets in Detectron2's catalogs.

Importing this module registers the standard data set and each folder below
``$DETECTRON2_DATASETS`` that holds the COCO file of a split, converted or of another tool.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from lesion_d2.data.coco import read_records
from lesion_d2.data.converted import SPLITS
from lesion_d2.errors import LesionError
from lesion_d2.files import read_json


def datasets_root() -> Path:
    """Return Detectron2's data folder: ``$DETECTRON2_DATASETS``, else ``datasets``."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets"))


def load_split(name: str, root: Path, split: str) -> list[dict[str, Any]]:
    """Read one split below ``root`` as :func:`lesion_d2.data.coco.read_records` does.

    Raises:
        LesionError: if the split's JSON is missing or a record in it cannot be right.
    """
    json_file = root / f"{split}.json"
    if not json_file.is_file():
        raise LesionError(
            f"{json_file}: data set {name!r} has not been converted; create it with "
            f"`tools/convert_isic.py --images DIR --masks DIR --output {root}`"
        )
    advice = "mend it, or convert again with --overwrite"
    content = read_json(json_file, advice)
    try:
        records = read_records(content, root)
    except LesionError as error:
        raise LesionError(f"{json_file}: {error}; {advice}") from error
    for record in records:
        for annotation in record["annotations"]:
            annotation["bbox_mode"] = BoxMode.XYWH_ABS
    return records


def register_dataset(name: str, root: str | os.PathLike[str]) -> None:
    """Register ``<name>_train``, ``<name>_val`` and ``<name>_test`` of a folder of COCO files.

    Registering a name again replaces it, so a notebook cell can run twice.
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
        )


def register_converted() -> None:
    """Register the standard data set and each folder of splits below the data folder."""
    root = datasets_root()
    found = {path.parent.name for path in root.glob("*/*.json") if path.stem in SPLITS}
    for name in sorted(found | {"isic2018"}):
        register_dataset(name, root / name)


register_converted()
