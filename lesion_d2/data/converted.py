"""Reading a converted data set folder for the figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from lesion_d2.data.coco import read_records
from lesion_d2.errors import LesionError
from lesion_d2.files import read_json
from lesion_d2.images.reading import read_image
from lesion_d2.images.run_lengths import check_rle
from lesion_d2.images.source import BadFileError

SPLITS = ("train", "val", "test")
_AGAIN = "convert the data set again"


@dataclass(frozen=True)
class LesionImage:
    """One image of a converted data set and its lesion.

    Attributes:
        image_id: the number in the COCO file.
        isic_id: such as ``ISIC_0000000``.
        path: the image file that training reads.
        height: of that file, in pixels, after EXIF rotation; so is ``width``.
        original_height: of the archive's file, in pixels; so is ``original_width``.
        segmentation: COCO segmentation of the lesion (compressed RLE or polygons), or None.
    """

    image_id: int
    isic_id: str
    path: Path
    height: int
    width: int
    original_height: int
    original_width: int
    segmentation: Any

    def read_rgb(self) -> np.ndarray:
        """Return the image as RGB, uint8, shape (height, width, 3).

        Raises:
            LesionError: the file is missing, unreadable or of another size.
        """
        try:
            image, _ = read_image(self.path)
        except BadFileError as error:
            raise LesionError(f"{self.path}: cannot be used ({error}); {_AGAIN}") from error
        height, width = image.shape[:2]
        if (height, width) != (self.height, self.width):
            said = f"the data set says {self.width}x{self.height}"
            raise LesionError(f"{self.path}: is {width}x{height}, {said}; {_AGAIN}")
        return np.ascontiguousarray(image[..., ::-1])

    def read_mask(self) -> np.ndarray:
        """Return the lesion's mask as bool, shape (height, width); all False without a lesion."""
        if self.segmentation is None:
            return np.zeros((self.height, self.width), bool)
        return decode_segmentation(self.segmentation, self.height, self.width)


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return a COCO segmentation as a bool mask of shape (height, width).

    It is a compressed RLE, or a list of polygons ``[x0, y0, x1, y1, ...]`` in pixels.

    Raises:
        LesionError: an RLE that is damaged or of another size.
    """
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    try:
        check_rle(segmentation, height, width)
    except LesionError as error:
        raise LesionError(f"{error}; write both from the same conversion") from error
    return cv2.transpose(coco_mask.decode(segmentation).T).view(bool)


def read_split(dataset_dir: Path, split: str) -> list[LesionImage]:
    """Return the images of one split (``train``, ``val`` or ``test``), by rising image id.

    Raises:
        LesionError: the split's COCO file is missing, or a record in it cannot be right.
    """
    path = dataset_dir / f"{split}.json"
    coco = read_json(path, "write it with tools/convert_isic.py")
    try:
        records = read_records(coco, dataset_dir)
    except LesionError as error:
        raise LesionError(f"{path}: {error}; {_AGAIN}") from error
    images = {image["id"]: image for image in coco["images"]}  # other tools write no original sizes
    return [
        LesionImage(
            image_id=record["image_id"],
            isic_id=record["isic_id"],
            path=Path(record["file_name"]),
            height=record["height"],
            width=record["width"],
            original_height=images[record["image_id"]].get("original_height", record["height"]),
            original_width=images[record["image_id"]].get("original_width", record["width"]),
            segmentation=next((a["segmentation"] for a in record["annotations"]), None),
        )
        for record in records
    ]
