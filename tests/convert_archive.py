"""Small archives for the tests of the converter."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
from picture_files import encode

from lesion_d2.commands.convert import ConvertOptions


def lesion_pair(number=0, height=60, width=80):
    """Return an RGB picture (H, W, 3) and its mask (H, W) of 0 and 255: one dark ellipse."""
    rng = np.random.default_rng(number)
    mask = np.zeros((height, width), np.uint8)
    centre = (int(width * rng.uniform(0.4, 0.6)), int(height * rng.uniform(0.4, 0.6)))
    axes = (int(width * rng.uniform(0.15, 0.3)), int(height * rng.uniform(0.15, 0.3)))
    cv2.ellipse(mask, centre, axes, int(rng.integers(180)), 0, 360, 255, -1)
    image = np.where(mask[..., None] > 0, (90, 60, 50), (220, 180, 160)).astype(np.uint8)
    return image, mask


class Archive:
    """Two folders in the layout of the official archives."""

    def __init__(self, root: Path):
        self.images = root / "ISIC2018_Task1-2_Training_Input"
        self.masks = root / "ISIC2018_Task1_Training_GroundTruth"
        self.output = root / "converted"
        self.images.mkdir(parents=True)
        self.masks.mkdir()

    def add(self, number, image=None, mask=None, *, height=60, width=80):
        """Write a pair; ``image`` and ``mask`` are arrays or file contents, else good ones."""
        default_image, default_mask = lesion_pair(number, height, width)
        image = default_image if image is None else image
        mask = default_mask if mask is None else mask
        name = f"ISIC_{number:07d}"
        jpeg = image if isinstance(image, bytes) else encode(image, "JPEG", quality=95)
        png = mask if isinstance(mask, bytes) else encode(mask, "PNG")
        (self.images / f"{name}.jpg").write_bytes(jpeg)
        (self.masks / f"{name}_segmentation.png").write_bytes(png)
        return self

    def options(self, **changes):
        settings = {"folders": {"all": (self.images, self.masks)}, "output": self.output}
        return ConvertOptions(**{**settings, "group": False, **changes})


def read_split(output, split):
    """Return the parsed COCO file of one split."""
    return json.loads((output / f"{split}.json").read_text())


def all_records(output):
    """Return {isic_id: (image record, annotation record)} over the three splits."""
    records = {}
    for split in ("train", "val", "test"):
        content = read_split(output, split)
        annotations = {entry["image_id"]: entry for entry in content["annotations"]}
        for image in content["images"]:
            records[image["isic_id"]] = (image, annotations[image["id"]])
    return records


def audit_rows(output):
    """Return the lines of audit.csv as dicts."""
    with open(output / "audit.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def folder_bytes(output):
    """Return {relative name: content} of all files."""
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def make_archive(root, count=12):
    archive = Archive(root)
    for number in range(count):
        large = number % 3 == 0
        archive.add(number, height=750 if large else 61, width=1001 if large else 83)
    return archive


def split_ids(output):
    return {
        split: [image["isic_id"] for image in read_split(output, split)["images"]]
        for split in ("train", "val", "test")
    }
