"""A tiny evaluation in all its files, and a reader of the report about it."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
from figure_files import HEIGHT, WIDTH, make_dataset, make_run, square

from lesion_d2.evaluation.failure_detection import FAILURE_IOU
from lesion_d2.evaluation.metrics import METRICS, hold_against, score_image
from lesion_d2.evaluation.scores import COLUMNS
from lesion_d2.evaluation.statistics import means_with_intervals
from lesion_d2.images.run_lengths import encode_mask


def make_evaluation(parent: Path, estimated: bool = False) -> tuple[Path, Path, Path]:
    """Write data set, run and evaluation of a hit, a near miss and an image without a prediction.

    Returns the folders of the evaluation, the data set and the run.
    """
    dataset, run = make_dataset(parent), make_run(parent)
    folder = run / "eval" / "tiny_test"
    truth = square(10)
    masks = [square(10), square(14), np.zeros((HEIGHT, WIDTH), bool)]
    rows = []
    for number, mask in enumerate(masks, 30):
        found = bool(mask.any())
        scores = score_image(hold_against(encode_mask(truth), encode_mask(mask)))
        rows.append(
            {
                "image_id": number,
                "isic_id": f"ISIC_{number:07d}",
                **scores,
                "max_iou": scores["jaccard"],
                "num_instances": int(found),
                "top_score": 0.9 * found,
                "top1_iou": scores["jaccard"],
                "score": (0.95 - number / 1000) * found,
                "candidates": int(found),
                "sharpness": 0.9 * found,
                "agreement": 1.0 * found,
                "area_share": float(mask.mean()),
                "border_share": 0.0,
                "estimated_iou": [0.9, 0.6, 0.2][number - 30] if estimated else "",
            }
        )
        write_mask(folder, rows[-1]["isic_id"], mask)
    write_table(folder, rows)
    return folder, dataset, run


def write_mask(folder: Path, isic_id: str, mask: np.ndarray) -> None:
    (folder / "submission").mkdir(exist_ok=True)
    path = folder / "submission" / f"{isic_id}_segmentation.png"
    cv2.imwrite(str(path), mask.astype(np.uint8) * 255)


def write_table(folder: Path, rows: list[dict]) -> None:
    """Write per_image.csv and the metrics.json that fits it."""
    with open(folder / "per_image.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    table = {name: np.array([row[name] for row in rows], float) for name in METRICS}
    low, middle, high = np.percentile(table["max_iou"], [25, 50, 75])
    metrics = {
        "dataset": "tiny_test",
        "input_fingerprint": "f" * 64,
        "resolution": "original",
        "weights": "output/run/model_best.pth",
        "weights_sha256": "a" * 64,
        "seed": 7,
        "min_size_test": 96,
        "views": ["identity", "horizontal"],
        "view_scales": [1.0],
        "instance_choice": "top_score",
        "postprocessing": [],
        "mask_threshold": 0.5,
        "versions": {"torch": "2.9.9"},
        "split_fingerprint": "b" * 64,
        "score_threshold": 0.65,
        "num_images": len(rows),
        **means_with_intervals(table),
        "q1_max_iou": low,
        "median_max_iou": middle,
        "q3_max_iou": high,
        "misses": sum(int(row["num_instances"]) == 0 for row in rows),
        "below_065": int((table["max_iou"] < FAILURE_IOU).sum()),
        "submitted_below_065": int((table["jaccard"] < FAILURE_IOU).sum()),
        "submitted_empty": sum(float(row["area_share"]) == 0 for row in rows),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))


def read_rows(folder: Path) -> list[dict]:
    with open(folder / "per_image.csv", newline="") as stream:
        return list(csv.DictReader(stream))


class Page(HTMLParser):
    """What a browser would see of a report.

    Attributes:
        tags: (name, attributes) of each element.
        text: all text outside of style and script.
        errors: elements closed that were not open.
    """

    VOID = frozenset({"meta", "img", "input", "br", "path", "use", "image", "rect", "stop"})

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.errors: list[str] = []
        self._parts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.errors += self._open
        self.text = " ".join("".join(self._parts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.errors.append(tag)

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open):
            self._parts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]
