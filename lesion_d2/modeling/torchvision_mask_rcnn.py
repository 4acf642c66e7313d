"""A peer of our Mask R-CNN: that of torchvision, as a Detectron2 model.

Data, schedule, freezing, evaluation and prediction are those of the other configs.
"""

from collections import OrderedDict
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.structures import Boxes, Instances
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

CHANNELS = 256  # of the pyramid, as in torchvision's maskrcnn_resnet50_fpn


@META_ARCH_REGISTRY.register()
class TorchvisionMaskRCNN(nn.Module):
    """Mask R-CNN (He et al., ICCV 2017) of torchvision, on the encoder that the config names.

    Pretrained weights and ``FREEZE_AT`` are those of Detectron2's. What is sampled in training is
    the config's. The rest, all of prediction, is what torchvision has by default in its
    ``maskrcnn_resnet50_fpn``, for images of ``INPUT.MIN_SIZE_TEST`` and ``INPUT.MAX_SIZE_TEST``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone: Any = build_backbone(cfg)
        rpn = cfg.MODEL.RPN
        self.detector = MaskRCNN(
            _Pyramid(self.backbone),
            num_classes=1 + cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            min_size=cfg.INPUT.MIN_SIZE_TEST,
            max_size=cfg.INPUT.MAX_SIZE_TEST,
            image_mean=cfg.MODEL.PIXEL_MEAN,
            image_std=cfg.MODEL.PIXEL_STD,
            rpn_pre_nms_top_n_train=rpn.PRE_NMS_TOPK_TRAIN,
            rpn_post_nms_top_n_train=rpn.POST_NMS_TOPK_TRAIN,
            rpn_batch_size_per_image=rpn.BATCH_SIZE_PER_IMAGE,
            box_batch_size_per_image=cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE,
        )

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return next(self.parameters()).device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Return the losses of a batch in training, :meth:`inference` of it otherwise."""
        if not self.training:
            return self.inference(batched_inputs)
        targets = []
        for item in batched_inputs:
            truth = item["instances"].to(self.device)
            masks = truth.gt_masks.tensor
            labels = truth.gt_classes + 1  # 0 is the background
            targets.append(
                {"boxes": truth.gt_boxes.tensor, "labels": labels, "masks": masks.byte()}
            )
        return self.detector(self._images(batched_inputs), targets)

    def inference(
        self, batched_inputs: list[dict[str, Any]], do_postprocess: bool = False
    ) -> list[Instances]:
        """Return the instances of each image, as Detectron2's does without post-processing.

        Boxes are in pixels, masks soft and of the size of the image: they are not pasted again.
        """
        assert not do_postprocess
        results = []
        for image, found in zip(
            batched_inputs, self.detector(self._images(batched_inputs)), strict=True
        ):
            size = image["image"].shape[-2:]
            whole = found["boxes"].new_tensor([[0, 0, size[1], size[0]]])
            boxes = Boxes(whole.expand(len(found["boxes"]), 4))
            fields = {"pred_boxes": boxes, "scores": found["scores"], "pred_masks": found["masks"]}
            results.append(Instances(tuple(size), **fields))
        return results

    def _images(self, batched_inputs: list[dict[str, Any]]) -> list[torch.Tensor]:
        return [item["image"].to(self.device).float() for item in batched_inputs]


class _Pyramid(nn.Module):
    """torchvision's pyramid on a Detectron2 backbone, which it does not register a second time."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        channels = [shape.channels for shape in backbone.output_shape().values()]
        self._backbone = (backbone,)
        self.fpn = FeaturePyramidNetwork(channels, CHANNELS, LastLevelMaxPool())
        self.out_channels = CHANNELS

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self._backbone[0](x).values()
        return self.fpn(OrderedDict((str(i), features) for i, features in enumerate(maps)))
