"""Heads on regions of interest: faster pooling, and masks that reach beyond their box."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    StandardROIHeads,
    select_foreground_proposals,
)
from detectron2.structures import Boxes, Instances
from torch import nn

from lesion_d2.modeling.roi_align import SeparableROIAlign


@ROI_HEADS_REGISTRY.register()
class LesionROIHeads(StandardROIHeads):
    """Detectron2's heads with :class:`SeparableROIAlign` and a margin around boxes for the mask.

    A mask ends where its box ends, so that a box that cuts a lesion off cuts its mask off, too.
    With ``MODEL.ROI_MASK_HEAD.BOX_MARGIN`` the mask head sees and fills a larger part of the image:
    the box, grown on each side by that share of its width or height, within the image. This is the
    instance's box from there on.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__(cfg, input_shape)
        self.margin = cfg.MODEL.ROI_MASK_HEAD.BOX_MARGIN

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: object) -> dict:
        return _separable(super()._init_box_head(cfg, input_shape), "box_pooler")

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: object) -> dict:
        return _separable(super()._init_mask_head(cfg, input_shape), "mask_pooler")

    def _forward_mask(self, features: dict[str, torch.Tensor], instances: list[Instances]) -> Any:
        if self.mask_on and self.margin:
            if self.training:
                instances, _ = select_foreground_proposals(instances, self.num_classes)
            for item in instances:
                name = "proposal_boxes" if self.training else "pred_boxes"
                item.set(name, grow(item.get(name), self.margin, item.image_size))
        return super()._forward_mask(features, instances)


def grow(boxes: Boxes, margin: float, image_size: Sequence[int]) -> Boxes:
    """Return boxes that are larger by a share of their width and height on each side.

    Args:
        boxes: N boxes.
        margin: the share.
        image_size: (height, width) that the result is clipped to.
    """
    corners = boxes.tensor
    extra = margin * (corners[:, 2:] - corners[:, :2])
    grown = Boxes(torch.cat([corners[:, :2] - extra, corners[:, 2:] + extra], 1))
    grown.clip((image_size[0], image_size[1]))
    return grown


def _separable(parts: dict, name: str) -> dict:
    pooler = parts.get(name)
    if isinstance(pooler, ROIPooler):
        pooler.level_poolers = nn.ModuleList(
            SeparableROIAlign(old.output_size, old.spatial_scale, old.sampling_ratio, old.aligned)
            for old in pooler.level_poolers
        )
    return parts
