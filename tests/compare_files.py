"""Evaluations to compare, in the files that are read of them."""

import csv
import json

import numpy as np

from lesion_d2.evaluation.metrics import METRICS

IMAGES = 12
SUMMARY = {
    "dataset": "tiny_test",
    "input_fingerprint": "f" * 64,
    "split_fingerprint": "a" * 64,
    "resolution": "data set",
    "weights": "output/run/model_best.pth",
    "weights_sha256": "0" * 64,
    "seed": 0,
    "versions": {"torch": "2.6.0"},
    "score_threshold": 0.5,
    "min_size_test": 64,
    "views": ["identity"],
    "view_scales": [1.0],
    "instance_choice": "top_score",
    "postprocessing": ["threshold"],
    "mask_threshold": 0.5,
}


def scores_of(seed, images=IMAGES):
    """Columns of per_image.csv; image ids count from 30."""
    rng = np.random.default_rng(seed)
    table = {name: rng.uniform(0.3, 1, images) for name in METRICS}
    return {
        "image_id": np.arange(30, 30 + images),
        "isic_id": np.array([f"ISIC_{number:07d}" for number in range(30, 30 + images)]),
        "num_instances": rng.integers(0, 3, images),
        "estimated_iou": np.array([""] * images),
        **table,
    }


def write_evaluation(folder, table, **metrics):
    """Write the two files of an evaluation that are read here; None drops a key."""
    folder.mkdir(parents=True)
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    with open(folder / "per_image.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(table)
        writer.writerows(rows)
    values = SUMMARY | {"num_images": len(table["image_id"])} | metrics
    kept = {key: value for key, value in values.items() if value is not None}
    (folder / "metrics.json").write_text(json.dumps(kept))
    return folder
