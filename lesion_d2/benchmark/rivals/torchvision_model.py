"""torchvision's Mask R-CNN, R50-FPN, and the weights of Detectron2's in it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import MultiScaleRoIAlign

_LATERAL = re.compile(r"backbone\.fpn_lateral(\d)\.")
_HEADS = {
    "proposal_generator.rpn_head.conv": "rpn.head.conv.0.0",
    "proposal_generator.rpn_head.objectness_logits": "rpn.head.cls_logits",
    "proposal_generator.rpn_head.anchor_deltas": "rpn.head.bbox_pred",
    "roi_heads.box_head.fc1": "roi_heads.box_head.fc6",
    "roi_heads.box_head.fc2": "roi_heads.box_head.fc7",
    "roi_heads.box_predictor.cls_score": "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
    "roi_heads.mask_head.deconv": "roi_heads.mask_predictor.conv5_mask",
    "roi_heads.mask_head.predictor": "roi_heads.mask_predictor.mask_fcn_logits",
}


def build_torchvision(cfg: CfgNode, min_size: int, max_size: int) -> MaskRCNN:
    """Build torchvision's ``maskrcnn_resnet50_fpn`` with a config's classes, levels and anchors.

    So are the regions and anchors that training draws; Detectron2's stock numbers, 512 and 256 an
    image, are torchvision's too. The rest is torchvision's default: up to 2,000 proposals in
    training, 1,000 in inference, and 100 detections. It takes BGR in [0, 255] as Detectron2 does.

    Args:
        cfg: a Detectron2 config.
        min_size: the shorter side is resized to it.
        max_size: unless the longer side would be above this.
    """
    blocks = [int(name.removeprefix("res")) for name in cfg.MODEL.FPN.IN_FEATURES]
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        trainable_layers=5,
        returned_layers=[block - 1 for block in blocks],
    )
    levels = [str(number) for number in range(len(blocks))]
    if cfg.MODEL.RESNETS.STRIDE_IN_1X1:
        for layer in (backbone.body.layer2, backbone.body.layer3, backbone.body.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    sizes = [tuple(level) for level in cfg.MODEL.ANCHOR_GENERATOR.SIZES]
    while len(sizes) <= len(levels):  # proposals do not come from the first level
        sizes.insert(0, tuple(size / 2 for size in sizes[0]))
    return MaskRCNN(
        backbone,
        num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1,
        min_size=min_size,
        max_size=max_size,
        box_batch_size_per_image=cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE,
        rpn_batch_size_per_image=cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE,
        image_mean=cfg.MODEL.PIXEL_MEAN,
        image_std=cfg.MODEL.PIXEL_STD,
        rpn_anchor_generator=AnchorGenerator(
            tuple(sizes), tuple(map(tuple, cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS)) * len(sizes)
        ),
        box_roi_pool=MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
        mask_roi_pool=MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=2),
    ).to(cfg.MODEL.DEVICE)


def copy_weights(source: nn.Module, target: MaskRCNN) -> bool:
    """Copy the weights of a Detectron2 Mask R-CNN into torchvision's.

    Returns:
        whether they fit; ``target`` is unchanged if not.
    """
    first_level = min(
        (int(match[1]) for key in source.state_dict() if (match := _LATERAL.match(key))), default=2
    )
    state = {
        _name(key, first_level): _values(key, value)
        for key, value in source.state_dict().items()
        if not key.startswith("pixel_")
    }
    wanted = {key: value.shape for key, value in target.state_dict().items()}
    if {key: value.shape for key, value in state.items()} != wanted:
        return False
    target.load_state_dict(state)
    return True


def freeze(model: MaskRCNN, freeze_at: int) -> None:
    """Freeze the first modules of the backbone, counted as Detectron2's ``FREEZE_AT``."""
    body = model.backbone.body
    blocks = (body.conv1, body.layer1, body.layer2, body.layer3, body.layer4)
    for block in blocks[:freeze_at]:
        for parameter in block.parameters():
            parameter.requires_grad_(False)


def torchvision_targets(batch: Sequence[Mapping[str, Any]], device: str) -> list[dict[str, Any]]:
    """Return a batch's instances, with bit masks, as torchvision takes them."""
    return [
        {
            "boxes": item["instances"].gt_boxes.tensor.to(device),
            "labels": item["instances"].gt_classes.to(device) + 1,
            "masks": item["instances"].gt_masks.tensor.to(device, torch.uint8),
        }
        for item in batch
    ]


def torchvision_images(batch: Sequence[Mapping[str, Any]], device: str) -> list[torch.Tensor]:
    """Return a batch's images as torchvision takes them."""
    return [item["image"].to(device).float() for item in batch]


def _name(key: str, first_level: int) -> str:
    """Return torchvision's name of a parameter or buffer of Detectron2's."""
    module, _, kind = key.rpartition(".")
    if module.startswith("backbone.bottom_up.stem"):
        return f"backbone.body.{'bn1' if module.endswith('norm') else 'conv1'}.{kind}"
    if match := re.fullmatch(r"backbone\.bottom_up\.res(\d)\.(.+)", module):
        inside = re.sub(r"conv(\d)\.norm", r"bn\1", match[2])
        inside = inside.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
        return f"backbone.body.layer{int(match[1]) - 1}.{inside}.{kind}"
    if match := re.fullmatch(r"backbone\.fpn_(lateral|output)(\d)", module):
        part = "inner_blocks" if match[1] == "lateral" else "layer_blocks"
        return f"backbone.fpn.{part}.{int(match[2]) - first_level}.0.{kind}"
    if match := re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)", module):
        return f"roi_heads.mask_head.{int(match[1]) - 1}.0.{kind}"
    return f"{_HEADS.get(module, module)}.{kind}"


def _values(key: str, value: torch.Tensor) -> torch.Tensor:
    """Put the background first, which Detectron2 has last or not at all."""
    if ".cls_score." in key:
        return value.roll(1, 0)
    missing = {".bbox_pred.": 4, ".mask_head.predictor.": 1}
    for part, rows in missing.items():
        if part in key:
            return torch.cat([value.new_zeros(rows, *value.shape[1:]), value])
    return value
