"""COCO's two records for one image and its lesion."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from lesion_d2.images.run_lengths import encode_mask


def image_number(isic_id: str) -> int:
    """Return COCO's image id: the digits of the ISIC id."""
    return int(isic_id.removeprefix("ISIC_"))


def annotation(isic_id: str, lesion: npt.NDArray[np.bool_], polygons: bool) -> dict[str, Any]:
    """Return the entry of a lesion in COCO's ``annotations``.

    Args:
        isic_id: for example ``ISIC_0000000``.
        lesion: (H, W), of the size of the file that training reads.
        polygons: write the segmentation as polygons in place of compressed RLE. The area, in
            pixels, and the box, [x, y, width, height], are those of the RLE either way.
    """
    rle = encode_mask(lesion)
    exact = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
    return {
        # pycocotools' matching takes an annotation id of 0 for "no match".
        "id": image_number(isic_id) + 1,
        "image_id": image_number(isic_id),
        "category_id": 1,
        "segmentation": _polygons(lesion) if polygons else exact,
        "area": int(coco_mask.area(rle)),
        "bbox": coco_mask.toBbox(rle).tolist(),
        "iscrowd": 0,
    }


def _polygons(lesion: npt.NDArray[np.bool_]) -> list[list[float]]:
    """Return the outer contours as [x, y, x, y, ...], pixel (0, 0) covering [0, 1] x [0, 1].

    A contour runs through pixel centres, half a pixel inside the border. On a mask of doubled size
    that is a quarter of a pixel, near enough to give back every pixel but those of holes, and even
    a single pixel has the four corners of a polygon.
    """
    double = lesion.view(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(double, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((contour.reshape(-1) + 0.5) / 2).tolist() for contour in contours]
