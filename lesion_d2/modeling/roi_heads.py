"""Detectron2's heads on regions of interest, with faster pooling."""

from detectron2.config import CfgNode
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads
from torch import nn

from lesion_d2.modeling.roi_align import SeparableROIAlign


@ROI_HEADS_REGISTRY.register()
class LesionROIHeads(StandardROIHeads):
    """Detectron2's heads with :class:`SeparableROIAlign`."""

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: object) -> dict:
        return _separable(super()._init_box_head(cfg, input_shape), "box_pooler")

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: object) -> dict:
        return _separable(super()._init_mask_head(cfg, input_shape), "mask_pooler")


def _separable(parts: dict, name: str) -> dict:
    pooler = parts.get(name)
    if isinstance(pooler, ROIPooler):
        pooler.level_poolers = nn.ModuleList(
            SeparableROIAlign(old.output_size, old.spatial_scale, old.sampling_ratio, old.aligned)
            for old in pooler.level_poolers
        )
    return parts
