"""Whether ONNX Runtime and torch find the same with the model that comes with the package.

Called as: tests/agreement.py --dataset datasets/isic2018 --split val
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from lesion_d2 import LesionPredictor
from lesion_d2.errors import run_tool


class Agreement(NamedTuple):
    """Of one image: of the two masks, of the lists of instances, of the two estimates."""

    instances: int
    iou: float  # 1 where both are empty
    same_order: bool  # as many instances, each of the same place and score as the other's
    difference: float  # of the estimated IoUs

    @property
    def good(self):
        return self.iou >= 0.999 and self.same_order and self.difference < 1e-3


def compare(left, right, image):
    """Compare two predictors on an image, uint8 of shape (H, W, 3), BGR."""
    (a,), (b,) = (predictor([image], channels="BGR") for predictor in (left, right))
    union = np.count_nonzero(a.mask | b.mask)
    iou = np.count_nonzero(a.mask & b.mask) / union if union else 1.0
    seen = left._prepare(image, "BGR")[None]
    (one,), (two,) = (predictor._outliner.network(seen) for predictor in (left, right))
    same = len(one.scores) == len(two.scores) and bool(
        (abs(one.scores - two.scores) < 1e-3).all() and (abs(one.boxes - two.boxes) < 0.5).all()
    )
    return Agreement(len(two.scores), iou, same, abs(a.estimated_iou - b.estimated_iou))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="converted")
    parser.add_argument("--split", required=True, help="val or test")
    parser.add_argument("--count", type=int, metavar="N", help="the first N images (default: all)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="such as TEST.SECOND_LOOK 2.0")
    args = parser.parse_args()
    left, right = (
        LesionPredictor.pretrained(args.opts + opts) for opts in ([], ["MODEL.DEVICE", "cpu"])
    )
    print(f"{left.engine}; {right.engine}")
    records = json.loads((args.dataset / f"{args.split}.json").read_text())["images"][: args.count]
    found = [
        compare(left, right, cv2.imread(str(args.dataset / record["file_name"])))
        for record in records
    ]
    print(f"images: {len(found)}, of which all agree: {sum(item.good for item in found)}")
    print(f"lowest IoU of masks: {min(item.iou for item in found):.6f}")
    print(f"same instances in the same order: {sum(item.same_order for item in found)}")
    print(f"largest difference of estimated IoUs: {max(i.difference for i in found):.2g}")
    return 0 if all(item.good for item in found) else 1


if __name__ == "__main__":
    run_tool(main)
