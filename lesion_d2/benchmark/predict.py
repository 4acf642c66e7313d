"""Prediction against Detectron2's predictor on the same weights."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from detectron2.engine import DefaultPredictor
from pycocotools import mask as mask_util

from lesion_d2.benchmark.data import Options
from lesion_d2.benchmark.models import prepare_test
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals import stock_detections
from lesion_d2.benchmark.timing import alternate
from lesion_d2.commands.predict import predict_files
from lesion_d2.data.members import ground_truth_rle
from lesion_d2.images.inputs import ImageFile
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.prediction.predictor import LesionPredictor
from lesion_d2.prediction.segmenter import load_segmenter
from lesion_d2.results.predictions import PredictionFolder

RIVALS = STOCK, SAME_CONFIG = "DefaultPredictor", "DefaultPredictor, config of lesion_d2"

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def run(options: Options) -> tuple[str, list[Section]]:
    """Measure; return the device, and the results."""
    cfg, records = prepare_test(options)
    work = {
        "lesion_d2": partial(our_masks, LesionPredictor(cfg, load_segmenter(cfg).eval().outliner)),
        SAME_CONFIG: partial(write_masks, partial(top_instance, DefaultPredictor(cfg))),
        STOCK: partial(write_masks, partial(top_instance, DefaultPredictor(stock_detections(cfg)))),
    }
    files = [Path(record["file_name"]) for record in records]
    folders = {name: options.folder / name for name in work}
    contenders = {name: partial(once, files, folders[name]) for name, once in work.items()}

    def remove(name: str) -> None:
        shutil.rmtree(folders[name], ignore_errors=True)

    seconds = alternate(contenders, options.repeats, "predicting files", prepare=remove)
    columns = {"mean IoU": {name: mean_iou(folders[name], records) for name in work}}
    weights = "given" if options.weights else "random"
    title = f"from file to mask on disk, {len(files)} images, {weights} weights"
    section = Section(title, "image", len(files), seconds, RIVALS, columns=columns)
    return cfg.MODEL.DEVICE, [section]


def top_instance(predictor: DefaultPredictor, image: Image) -> Mask:
    """Return the mask of the highest score; an empty one where there is no instance."""
    instances = predictor(image)["instances"].to("cpu")
    if not len(instances):
        return np.zeros(image.shape[:2], bool)
    return instances.pred_masks[instances.scores.argmax()].numpy()


def our_masks(predictor: LesionPredictor, files: list[Path], output: Path) -> None:
    """Predict as tools/predict.py does, without a progress bar."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        images = [ImageFile(file, file.stem) for file in files]
        predict_files(predictor, images, PredictionFolder(output), overlays=False)


def write_masks(function: Callable[[Image], Mask], files: list[Path], output: Path) -> None:
    """Read each file, and write the mask that a rival makes of it, named as ours."""
    (output / "masks").mkdir(parents=True)
    for file in files:
        image = cv2.imread(str(file))
        assert image is not None
        mask = function(image.astype(np.uint8, copy=False)).astype(np.uint8) * 255
        cv2.imwrite(str(output / "masks" / f"{file.stem}_segmentation.png"), mask)


def mean_iou(output: Path, records: Sequence[dict[str, Any]]) -> float:
    """Return the mean IoU of the masks written to a folder, with the true ones."""
    ious = []
    for record in records:
        name = f"{Path(record['file_name']).stem}_segmentation.png"
        mask = cv2.imread(str(output / "masks" / name), cv2.IMREAD_GRAYSCALE)
        rle = encode_mask(np.asarray(mask) > 0)
        ious.append(mask_util.iou([rle], [ground_truth_rle(record)], [0])[0, 0])
    return float(np.mean(ious))
