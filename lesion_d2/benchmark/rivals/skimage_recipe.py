"""The usual conversion with scikit-image: `imread`, `resize`, `find_contours` polygons."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lesion_d2.errors import LesionError


def convert_with_skimage(images: Path, masks: Path, output: Path) -> None:
    """Convert an archive to one COCO file, ``annotations.json``, and a folder ``images``.

    Images above 700 x 700 pixels are made smaller, to 25 % a side, as Matterport's Mask R-CNN does
    it; the contours are closed as in pycococreator.

    Args:
        images: folder of JPEG files.
        masks: folder of their masks.
        output: folder to create.

    Raises:
        LesionError: if scikit-image is not installed.
    """
    check_skimage()
    from skimage.io import imread
    from skimage.measure import find_contours
    from skimage.transform import resize

    (output / "images").mkdir(parents=True)
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for number, path in enumerate(sorted(images.glob("*.jpg")), start=1):
        image = imread(path)
        mask = imread(masks / f"{path.stem}_segmentation.png")
        height, width = image.shape[:2]
        if height * width > 700 * 700:
            height, width = round(height / 4), round(width / 4)
            image = resize(image, (height, width), anti_aliasing=True, preserve_range=True)
            mask = resize(mask, (height, width), anti_aliasing=True, preserve_range=True)
            pixels = image.round().astype(np.uint8)
            Image.fromarray(pixels).save(output / "images" / path.name, quality=95)
        else:
            shutil.copyfile(path, output / "images" / path.name)
        lesion = mask > 127
        # A frame of background closes the contours of lesions at the border.
        contours = find_contours(np.pad(lesion, 1).astype(np.uint8), 0.5)
        polygons = [
            (contour[:, ::-1] - 1).clip(0).ravel().tolist()
            for contour in contours
            if len(contour) > 3
        ]
        rows, columns = np.flatnonzero(lesion.any(1)), np.flatnonzero(lesion.any(0))
        left, top = int(columns[0]), int(rows[0])
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
                "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                "iscrowd": 0,
            }
        )
    with open(output / "annotations.json", "w") as stream:
        json.dump({**content, "categories": [{"id": 1, "name": "lesion"}]}, stream)


def check_skimage() -> None:
    """Raise a LesionError if scikit-image is not installed."""
    try:
        import skimage  # noqa: F401
    except ImportError as error:
        raise LesionError(
            "scikit-image is not installed, and one of the rivals needs it: pip install "
            "scikit-image"
        ) from error
