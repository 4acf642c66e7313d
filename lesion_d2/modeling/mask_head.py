"""Detectron2's mask head with a finer target and a loss on overlap."""

import torch
from detectron2.config import CfgNode
from detectron2.layers import ROIAlign, ShapeSpec
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from torch.nn.functional import binary_cross_entropy_with_logits

from lesion_d2.modeling.losses import dice_loss


@ROI_MASK_HEAD_REGISTRY.register()
class LesionMaskHead(MaskRCNNConvUpsampleHead):
    """Learns from the share of each cell that is lesion, where Detectron2's learns from 0 or 1.

    Pasting such shares and thresholding them puts an outline between the centres of cells. To the
    cross-entropy comes the Dice loss, times ``MODEL.ROI_MASK_HEAD.DICE_WEIGHT``.
    """

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__(cfg, input_shape)
        self.dice_weight = cfg.MODEL.ROI_MASK_HEAD.DICE_WEIGHT

    def forward(
        self, x: torch.Tensor, instances: list[Instances]
    ) -> dict[str, torch.Tensor] | list[Instances]:
        """Return the losses of pooled features of shape (R, C, P, P), or fill in the masks.

        Args:
            x: features of the regions.
            instances: whose ``proposal_boxes`` (training) or ``pred_boxes`` the regions are.
        """
        if not self.training:
            return super().forward(x, instances)
        logits = self.layers(x)[:, 0].float()
        losses = {"loss_mask": logits.sum() * 0}  # for the case of no region
        if self.dice_weight:
            losses["loss_dice"] = losses["loss_mask"]
        if len(logits):
            targets = torch.cat([mask_shares(item, logits.shape[-1]) for item in instances])
            losses["loss_mask"] = binary_cross_entropy_with_logits(logits, targets)
            if self.dice_weight:
                losses["loss_dice"] = self.dice_weight * dice_loss(logits, targets)
        return losses


def mask_shares(instances: Instances, cells: int) -> torch.Tensor:
    """Return which share of each of ``cells`` x ``cells`` parts of each proposal is lesion.

    Args:
        instances: N, with ``proposal_boxes`` and ``gt_masks``, BitMasks.
        cells: along one side of a box.

    Returns:
        float32 of shape (N, cells, cells), in [0, 1].
    """
    boxes, masks = instances.proposal_boxes.tensor, instances.gt_masks.tensor
    index = torch.arange(len(boxes), dtype=boxes.dtype, device=boxes.device)
    align = ROIAlign((cells, cells), 1.0, 0, aligned=True)
    return align(masks[:, None].to(boxes.dtype), torch.cat([index[:, None], boxes], 1))[:, 0]
