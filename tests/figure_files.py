"""A tiny converted data set, run and evaluation to draw, and checks of what was drawn."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from pycocotools import mask as coco_mask
from tiny import DEMO

from lesion_d2.figures.losses import LOSSES
from lesion_d2.results.run import Schedule

HEIGHT, WIDTH = 30, 40
SCHEDULE = Schedule(iters_per_epoch=40, max_iter=160, stages=((1.5, 5), (4, 2)))


def rle(mask: np.ndarray) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def square(left: int, side: int = 12) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[8 : 8 + side, left : left + side] = True
    return mask


def write_metrics(path: Path, last: int, validation: bool = True) -> None:
    """One line every 20 iterations; the losses of epoch e are e times a number of their own."""
    with open(path, "w") as stream:
        for iteration in range(19, last + 1, 20):
            epoch = iteration // 40 + 1
            values = {key: epoch * (i + 1) for i, key in enumerate(LOSSES)}
            if validation and (iteration + 1) % 40 == 0:
                values |= {f"val_{key}": 2 * value for key, value in values.items()}
            stream.write(json.dumps({"iteration": iteration, "stage": 5.0, **values}) + "\n")


def make_dataset(parent: Path) -> Path:
    """Write a converted data set of three images a split; the last one of test has polygons."""
    folder = parent / "tiny"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for start, split in ((10, "train"), (20, "val"), (30, "test")):
        images, annotations = [], []
        for number in range(start, start + 3):
            name = f"ISIC_{number:07d}"
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / "images" / f"{name}.png"), pixels)
            images.append(
                {
                    "id": number,
                    "file_name": f"images/{name}.png",
                    "height": HEIGHT,
                    "width": WIDTH,
                    "isic_id": name,
                    "original_height": 750 if number % 2 else 300,
                    "original_width": 1000 if number % 2 else 400,
                }
            )
            polygon = [[10.0, 8.0, 22.0, 8.0, 22.0, 20.0, 10.0, 20.0]]
            segmentation = polygon if number == 32 else rle(square(10))
            annotations.append(
                {"id": number, "image_id": number, "category_id": 1, "segmentation": segmentation}
            )
        (folder / f"{split}.json").write_text(
            json.dumps({"categories": [{"id": 1}], "images": images, "annotations": annotations})
        )
    return folder


def make_run(parent: Path) -> Path:
    """Write a finished run with an evaluation on the test split: a hit, a double hit and a miss."""
    folder = parent / "run"
    evaluation = folder / "eval" / "tiny_test"
    evaluation.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"_BASE_: {DEMO}\n"
        "SOLVER:\n  ITERS_PER_EPOCH: 40\n  MAX_ITER: 160\n  STAGES: [[1.5, 5], [4, 2]]\n"
    )
    write_metrics(folder / "metrics.json", 159)
    predictions = [
        {"image_id": 30, "score": 0.95, "iou": 1.0, "segmentation": rle(square(10))},
        {"image_id": 31, "score": 0.9, "iou": 0.2, "segmentation": rle(square(18))},
        {"image_id": 31, "score": 0.75, "iou": 0.5, "segmentation": rle(square(14))},
    ]
    (evaluation / "predictions.json").write_text(json.dumps(predictions))
    with open(evaluation / "per_image.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image_id", "isic_id", "max_iou"])
        writer.writerows([[30, "ISIC_0000030", 1.0], [31, "ISIC_0000031", 0.5]])
        writer.writerow([32, "ISIC_0000032", 0.0])
    (evaluation / "metrics.json").write_text(json.dumps(summary(dataset="tiny_test")))
    return folder


def summary(**changes) -> dict:
    return {
        "dataset": "isic2018_test",
        "score_threshold": 0.65,
        "mean_max_iou": 0.5,
        "mean_max_iou_low": 0.123,
        "mean_max_iou_high": 0.789,
    } | changes


def texts(figure: Figure) -> str:
    """Everything the figure says, drawn once so that nothing is left to lay out."""
    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def assert_png(path: Path) -> None:
    image = cv2.imread(str(path))
    assert image is not None
    assert min(image.shape[:2]) > 200
    assert len(np.unique(image)) > 10
