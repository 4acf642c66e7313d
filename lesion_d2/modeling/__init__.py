"""Parts of the network that are not as in Detectron2, and building what a config names."""

from contextlib import nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from lesion_d2.config.load import settle_device
from lesion_d2.errors import LesionError
from lesion_d2.modeling import roi_align as roi_align
from lesion_d2.modeling import timm_backbone as timm_backbone
from lesion_d2.modeling import torchvision_mask_rcnn as torchvision_mask_rcnn
from lesion_d2.modeling import unet as unet


def build_network(cfg: CfgNode, *, empty: bool = False) -> Any:
    """Return the network of a config, on ``MODEL.DEVICE`` or, without a GPU, on the CPU.

    An ``empty`` one is on the device ``meta``, takes no memory and can compute nothing.

    Raises:
        LesionError: if the config names a part or a device that does not exist.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta" if empty else settle_device(cfg.MODEL.DEVICE)
    try:
        with torch.device("meta") if empty else nullcontext():
            return build_model(cfg)
    except KeyError as error:
        if "registry" not in str(error):
            raise
        raise LesionError(
            f"MODEL: {error.args[0]} Give a name of Detectron2 or of lesion_d2/modeling/"
        ) from error
