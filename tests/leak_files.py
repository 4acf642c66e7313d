"""Converted data sets with planted copies."""

import json
from pathlib import Path

import cv2
from drawn_lesions import lesion, recoloured

from lesion_d2.data.converted import SPLITS

EMPTY = {"categories": [{"id": 1}], "images": [], "annotations": []}


def number(seed: int) -> str:
    return f"ISIC_{seed:07d}"


def png(image, level: int = 1) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes()


def picture(seed: int) -> bytes:
    """The file of a lesion of its own."""
    return png(lesion(seed, 192, 256))


def repacked(seed: int) -> bytes:
    """Another file of the same pixels."""
    return png(lesion(seed, 192, 256), level=9)


def near(seed: int) -> bytes:
    """Another rendering of the same lesion."""
    return png(recoloured(lesion(seed, 192, 256)))


OWN = {seed: picture(seed) for seed in range(8)}


def make_dataset(folder: Path, **splits: dict[int, bytes]) -> Path:
    """Write a converted data set: for each split the files by image id."""
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        images = []
        for image_id, data in splits.get(split, {}).items():
            file_name = f"{split}/{number(image_id)}.png"
            (folder / file_name).write_bytes(data)
            sides = {"height": 192, "width": 256, "original_height": 192, "original_width": 256}
            images.append(
                {"id": image_id, "isic_id": number(image_id), "file_name": file_name, **sides}
            )
        (folder / f"{split}.json").write_text(json.dumps(EMPTY | {"images": images}))
    return folder
