"""Prediction against Detectron2's predictor on the same weights, and torchvision's model."""

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
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from pycocotools import mask as mask_util
from torchvision.models.detection import MaskRCNN

from lesion_d2.benchmark.machine import to_the_end
from lesion_d2.benchmark.models import prepare_test
from lesion_d2.benchmark.options import Common
from lesion_d2.benchmark.report import Section
from lesion_d2.benchmark.rivals.stock_detectron2 import stock_detections
from lesion_d2.benchmark.rivals.torchvision_model import build_torchvision, copy_weights
from lesion_d2.benchmark.timing import Contender, alternate
from lesion_d2.commands.predict import predict_files
from lesion_d2.data.members import ground_truth_rle
from lesion_d2.errors import LesionError
from lesion_d2.images.inputs import ImageFile
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.modeling.weights import load_trained
from lesion_d2.prediction.predictor import LesionPredictor
from lesion_d2.prediction.segmenter import load_segmenter
from lesion_d2.results.predictions import PredictionFolder

OURS, TORCHVISION = "lesion_d2", "torchvision"
STOCK, SAME_CONFIG = "DefaultPredictor", "DefaultPredictor, config of lesion_d2"
_MASK_THRESHOLD = 0.5

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def run(
    common: Common, config_file: str, opts: list[str], weights: Path | None
) -> tuple[str, list[Section]]:
    """Measure.

    Args:
        common: options of all benchmarks; its data set is a converted one.
        config_file: experiment.
        opts: overrides of it.
        weights: a checkpoint of it; None leaves weights random.

    Returns:
        the device, and the results.
    """
    cfg, records, batch = prepare_test(common, config_file, opts, weights)
    models = Models(cfg)
    kind = "given" if weights else "random"
    sections = [_files(common, models, records, kind), _alone(common, models, batch, kind)]
    return cfg.MODEL.DEVICE, sections


class Models:
    """The contenders, all with the weights of ``cfg.MODEL.WEIGHTS``."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg
        model = build_model(cfg)
        load_trained(model, cfg.MODEL.WEIGHTS)
        self.torchvision: MaskRCNN = build_torchvision(
            cfg, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        ).eval()
        if not copy_weights(model, self.torchvision):
            raise LesionError(
                "--config-file: its model is not R50-FPN of the usual widths, so torchvision's "
                "cannot have its weights; give another config"
            )
        self.segmenter = load_segmenter(cfg)
        self.ours = LesionPredictor(cfg, self.segmenter)
        self.stock = DefaultPredictor(stock_detections(cfg))
        self.same_config = DefaultPredictor(cfg)


def top_instance(predictor: DefaultPredictor, image: Image) -> Mask:
    """Return the mask of the highest score; an empty one where there is no instance."""
    instances = predictor(image)["instances"].to("cpu")
    if not len(instances):
        return np.zeros(image.shape[:2], bool)
    return instances.pred_masks[instances.scores.argmax()].numpy()


def top_torchvision(model: MaskRCNN, device: str, image: Image) -> Mask:
    """Return the mask of the highest score; an empty one where there is no instance."""
    with torch.inference_mode():
        (found,) = model([torch.from_numpy(image.transpose(2, 0, 1)).to(device).float()])
    if not len(found["scores"]):
        return np.zeros(image.shape[:2], bool)
    return (found["masks"][found["scores"].argmax(), 0] >= _MASK_THRESHOLD).cpu().numpy()


def _files(common: Common, models: Models, records: list[dict[str, Any]], kind: str) -> Section:
    files = [Path(record["file_name"]) for record in records]
    device = models.cfg.MODEL.DEVICE
    folders = {name: common.folder / name for name in (OURS, SAME_CONFIG, STOCK, TORCHVISION)}
    work: dict[str, Callable[[], object]] = {
        OURS: partial(_our_files, models.ours, files, folders[OURS])
    }
    masks: dict[str, Callable[[Image], Mask]] = {
        SAME_CONFIG: partial(top_instance, models.same_config),
        STOCK: partial(top_instance, models.stock),
        TORCHVISION: partial(top_torchvision, models.torchvision, device),
    }
    for name, function in masks.items():
        work[name] = partial(write_masks, function, files, folders[name])
    contenders = [
        Contender(name, run, partial(shutil.rmtree, folders[name], ignore_errors=True))
        for name, run in work.items()
    ]
    seconds = alternate(contenders, common.repeats, "predicting files")
    columns = {"mean IoU": {name: mean_iou(folders[name], records) for name in work}}
    title = f"from file to mask on disk, {len(files)} images, {kind} weights"
    rivals = (STOCK, SAME_CONFIG, TORCHVISION)
    return Section(title, "image", len(files), seconds, rivals, columns=columns)


def _our_files(predictor: LesionPredictor, files: list[Path], output: Path) -> None:
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


def _alone(common: Common, models: Models, batch: list[dict[str, Any]], kind: str) -> Section:
    device = models.cfg.MODEL.DEVICE
    inputs = []
    for item in batch:
        height, width = item["image"].shape[-2:]
        inputs.append({"image": item["image"], "height": height, "width": width})

    def detectron2(model: torch.nn.Module) -> None:
        with torch.inference_mode():
            for item in inputs:
                model([item])

    def torchvision() -> None:
        with torch.inference_mode():
            for item in inputs:
                models.torchvision([item["image"].to(device).float()])

    work: dict[str, Callable[[], object]] = {
        OURS: partial(detectron2, models.segmenter),
        SAME_CONFIG: partial(detectron2, models.same_config.model),
        STOCK: partial(detectron2, models.stock.model),
        TORCHVISION: torchvision,
    }
    contenders = [Contender(name, to_the_end(run, device)) for name, run in work.items()]
    seconds = alternate(contenders, common.repeats, "model alone")
    title = f"model alone, from the resized image to masks of its size, {kind} weights"
    return Section(title, "image", len(inputs), seconds, (STOCK, SAME_CONFIG, TORCHVISION))
