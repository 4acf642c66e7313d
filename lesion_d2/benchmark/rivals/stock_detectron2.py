"""Detectron2 as its model zoo and its tutorials use it."""

from pathlib import Path

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.data.datasets import register_coco_instances
from torch.utils.data import DataLoader

ZOO_CONFIG = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"


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

    Args:
        cfg: from :func:`stock_config`.
        name: to register the data set under.
        root: folder with ``annotations.json``.
    """
    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)
    register_coco_instances(name, {}, str(root / "annotations.json"), str(root))
    cfg = cfg.clone()
    cfg.DATASETS.TRAIN = (name,)
    return build_detection_train_loader(cfg)
