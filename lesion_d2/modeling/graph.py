"""Mask R-CNN as one static graph, for export.

Detectron2's own evaluation chooses proposals and instances by lists whose lengths depend on the
image. Here every list has the length that the config allows, and what is not filled has score 0.
What it computes is the same.
"""

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes
from torch import nn
from torchvision.ops import nms, roi_align

from lesion_d2.errors import LesionError

_NONE = float("-inf")  # logit of a place that is not filled


class MaskRCNNGraph(nn.Module):
    """What a Mask R-CNN of one class finds in an image, with outputs of fixed sizes.

    Raises:
        LesionError: if the model is another network.
    """

    def __init__(self, model: GeneralizedRCNN) -> None:
        super().__init__()
        heads = getattr(model, "roi_heads", None)
        rpn = getattr(model, "proposal_generator", None)
        if not isinstance(heads, StandardROIHeads) or not isinstance(rpn, RPN):
            raise LesionError(
                f"MODEL.META_ARCHITECTURE: {type(model).__name__} cannot be exported as a graph, "
                "only Mask R-CNN with StandardROIHeads; export to .safetensors"
            )
        _fix_padding(model)
        self.model = model.eval()
        self._rpn = rpn
        self._heads = heads

    def forward(
        self, image: torch.Tensor, size: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Find the D instances of highest score; D is ``TEST.DETECTIONS_PER_IMAGE``.

        Args:
            image: float32 of shape (3, H, W), 0 to 255, filled up at the right and below so that H
                and W are multiples of 32.
            size: int64 of shape (2,), height and width of the image without what was filled up.

        Returns:
            scores of shape (D,), falling, 0 where there is no instance; boxes of shape (D, 4), x0,
            y0, x1 and y1 in pixels of the image; soft masks of shape (D, M, M) on these boxes.
        """
        model = self.model
        (_, height, width), (rows, columns) = image.shape, size.unbind()
        inside = (torch.arange(height) < rows)[:, None] & (torch.arange(width) < columns)
        normal = (image - model.pixel_mean) / model.pixel_std * inside
        features = model.backbone(normal[None])
        limits = torch.stack([columns, rows, columns, rows]).float()
        scores, boxes = self._detect(features, *self._propose(features, limits), limits)
        maps = [features[name] for name in self._heads.mask_in_features]
        logits = self._heads.mask_head.layers(_pool(self._heads.mask_pooler, maps, boxes))
        return scores, boxes, logits[:, 0].sigmoid()

    def _propose(
        self, features: dict[str, torch.Tensor], limits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and boxes of the best proposals of all levels."""
        rpn = self._rpn
        count = int(rpn.pre_nms_topk[False])
        maps = [features[name] for name in rpn.in_features]
        generator = rpn.anchor_generator
        found = []
        levels = zip(*rpn.rpn_head(maps), generator.strides, generator.cell_anchors, strict=True)
        for logits, deltas, stride, cells in levels:
            height, width = logits.shape[2:]
            x = (torch.arange(width) + generator.offset) * stride
            y = (torch.arange(height) + generator.offset) * stride
            shifts = torch.stack(
                [x.expand(height, width), y[:, None].expand(height, width)] * 2, dim=-1
            )
            anchors = (shifts.reshape(-1, 1, 4) + cells).reshape(-1, 4)
            flat = deltas.reshape(len(cells), 4, -1).permute(2, 0, 1).reshape(-1, 4)
            # A small map has fewer places than are taken of a large one.
            scores = torch.cat(
                [logits[0].permute(1, 2, 0).flatten(), logits.new_full((count,), _NONE)]
            )
            anchors = torch.cat([anchors, anchors.new_zeros(count, 4)])
            flat = torch.cat([flat, flat.new_zeros(count, 4)])
            scores, best = scores.topk(count)
            boxes = rpn.box2box_transform.apply_deltas(flat[best], anchors[best])
            boxes = _clip(boxes, limits)
            scores = scores.where((boxes[:, 2:] - boxes[:, :2] > rpn.min_box_size).all(1), _NONE)
            found.append((_suppressed(boxes, scores, rpn.nms_thresh, _NONE), boxes))
        scores, boxes = (torch.cat(parts) for parts in zip(*found, strict=True))
        scores, best = scores.topk(min(int(rpn.post_nms_topk[False]), len(scores)))
        return scores, boxes[best]

    def _detect(
        self,
        features: dict[str, torch.Tensor],
        logits: torch.Tensor,
        proposals: torch.Tensor,
        limits: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores and boxes of the instances."""
        heads = self._heads
        predictor = heads.box_predictor
        maps = [features[name] for name in heads.box_in_features]
        pooled = _pool(heads.box_pooler, maps, proposals)
        classes, deltas = predictor(heads.box_head(pooled))
        boxes = _clip(predictor.box2box_transform.apply_deltas(deltas, proposals), limits)
        scores = classes.softmax(-1)[:, 0]
        kept = (logits > _NONE) & (scores > predictor.test_score_thresh)
        scores = _suppressed(boxes, scores.where(kept, 0.0), predictor.test_nms_thresh, 0.0)
        scores, best = scores.topk(min(predictor.test_topk_per_image, len(scores)))
        return scores, boxes[best] * (scores > 0)[:, None]


class _FixedPadding(nn.Conv2d):
    """A convolution of stride 1 or 2 that pads as TensorFlow's does where the sides are even.

    Computed from the sides, as timm does, the padding takes the exporter minutes.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = (
            max(0, (size - 1) * step + 1 - stride)  # of both ends together
            for size, step, stride in zip(self.kernel_size, self.dilation, self.stride, strict=True)
        )
        left, top = columns // 2, rows // 2
        return super().forward(nn.functional.pad(x, (left, columns - left, top, rows - top)))


def _fix_padding(model: nn.Module) -> None:
    for name, conv in list(model.named_modules()):
        if isinstance(conv, nn.Conv2d) and type(conv).__name__ == "Conv2dSame":
            fixed = _FixedPadding(
                conv.in_channels,
                conv.out_channels,
                (conv.kernel_size[0], conv.kernel_size[1]),
                (conv.stride[0], conv.stride[1]),
                dilation=(conv.dilation[0], conv.dilation[1]),
                groups=conv.groups,
            )
            fixed.weight, fixed.bias = conv.weight, conv.bias
            model.set_submodule(name, fixed)


def _clip(boxes: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    return torch.minimum(boxes.clamp(min=0), limits)


def _suppressed(
    boxes: torch.Tensor, scores: torch.Tensor, threshold: float, none: float
) -> torch.Tensor:
    """Return the scores, ``none`` for those that non-maximum suppression drops."""
    kept = torch.zeros_like(scores).scatter(0, nms(boxes, scores, threshold), 1.0)
    return scores.where(kept > 0, none)


def _pool(pooler: ROIPooler, maps: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
    """Pool each box from the level that its size belongs to: on the others it has no extent."""
    areas = Boxes(boxes).area()
    levels = pooler.canonical_level + torch.log2(areas.sqrt() / pooler.canonical_box_size + 1e-8)
    levels = levels.floor().clamp(pooler.min_level, pooler.max_level)
    pooled = []
    for number, (features, align) in enumerate(zip(maps, pooler.level_poolers, strict=True)):
        mine = boxes * (levels == pooler.min_level + number)[:, None]
        rois = torch.cat([torch.zeros_like(mine[:, :1]), mine], dim=1)
        pooled.append(
            roi_align(
                features, rois, align.output_size, align.spatial_scale, align.sampling_ratio,
                align.aligned,
            )
        )  # fmt: skip
    return torch.stack(pooled).sum(0)
