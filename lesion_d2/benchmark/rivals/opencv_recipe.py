"""The usual conversion with OpenCV: decode all pixels, area resize, contours as polygons."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def convert_with_opencv(images: Path, masks: Path, output: Path, resize: bool = True) -> None:
    """Convert an archive to one COCO file, ``annotations.json``, and a folder ``images``.

    Args:
        images: folder of JPEG files.
        masks: folder of their masks.
        output: folder to create.
        resize: make images above 700 x 700 pixels smaller, to 25 % a side; else none is.
    """
    (output / "images").mkdir(parents=True)
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for number, path in enumerate(sorted(images.glob("*.jpg")), start=1):
        image = cv2.imread(str(path))
        mask = cv2.imread(str(masks / f"{path.stem}_segmentation.png"), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert mask is not None
        height, width = image.shape[:2]
        if resize and height * width > 700 * 700:
            width, height = round(width / 4), round(height / 4)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
            quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
            cv2.imwrite(str(output / "images" / path.name), image, quality)
        else:
            shutil.copyfile(path, output / "images" / path.name)
        lesion = (mask > 127).astype(np.uint8)
        contours, _ = cv2.findContours(lesion, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        polygons = [contour.ravel().tolist() for contour in contours if len(contour) > 2]
        content["images"].append(
            {"id": number, "file_name": f"images/{path.name}", "height": height, "width": width}
        )
        content["annotations"].append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "segmentation": polygons,
                "area": int(lesion.sum()),
                "bbox": list(cv2.boundingRect(lesion)),
                "iscrowd": 0,
            }
        )
    with open(output / "annotations.json", "w") as stream:
        json.dump({**content, "categories": [{"id": 1, "name": "lesion"}]}, stream)
