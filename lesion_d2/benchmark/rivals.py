"""What others would use, written as its documentation or its users write it."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.data.datasets import register_coco_instances
from torch.utils.data import DataLoader

ZOO_CONFIG = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"


def convert_with_opencv(images: Path, masks: Path, output: Path, resize: bool = True) -> None:
    """Convert an archive to one COCO file, ``annotations.json``, and a folder ``images``.

    The usual way: decode all pixels, resize by area, write contours as polygons. With ``resize``
    images above 700 x 700 pixels are made smaller, to 25 % a side.
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


def stock_config(cfg: CfgNode) -> CfgNode:
    """Return the model zoo's config of Mask R-CNN, with the class, sizes and batch of ``cfg``."""
    stock = model_zoo.get_config(ZOO_CONFIG)
    stock.MODEL.WEIGHTS = ""
    stock.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    stock.MODEL.DEVICE = cfg.MODEL.DEVICE
    stock.OUTPUT_DIR = cfg.OUTPUT_DIR
    for key in ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST"):
        stock.INPUT[key] = cfg.INPUT[key]
    stock.SOLVER.IMS_PER_BATCH = cfg.SOLVER.IMS_PER_BATCH
    stock.DATALOADER.NUM_WORKERS = cfg.DATALOADER.NUM_WORKERS
    return stock


def stock_detections(cfg: CfgNode) -> CfgNode:
    """Return a copy of a config with the model zoo's numbers of proposals and detections.

    Its heads are the zoo's, too, which compute the same with Detectron2's own RoIAlign.
    """
    zoo, cfg = model_zoo.get_config(ZOO_CONFIG), cfg.clone()
    for key in ("PRE_NMS_TOPK_TEST", "POST_NMS_TOPK_TEST"):
        cfg.MODEL.RPN[key] = zoo.MODEL.RPN[key]
    cfg.MODEL.ROI_HEADS.NAME = zoo.MODEL.ROI_HEADS.NAME
    cfg.TEST.DETECTIONS_PER_IMAGE = zoo.TEST.DETECTIONS_PER_IMAGE
    return cfg


def stock_loader(cfg: CfgNode, name: str, root: Path) -> DataLoader:
    """Build Detectron2's own training loader of a folder that a recipe wrote.

    ``cfg`` is of :func:`stock_config`; the data set is registered under ``name``.
    """
    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)
    register_coco_instances(name, {}, str(root / "annotations.json"), str(root))
    cfg = cfg.clone()
    cfg.DATASETS.TRAIN = (name,)
    return build_detection_train_loader(cfg)
