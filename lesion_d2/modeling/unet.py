"""A peer of Mask R-CNN: the U-Net of segmentation-models-pytorch, as a Detectron2 model.

Data, schedule, freezing, evaluation and prediction are those of the other configs. What is
different is that the network gives one soft mask of the whole image and nothing else.
"""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d, relu

from lesion_d2.errors import LesionError
from lesion_d2.modeling.timm_backbone import TimmBackbone


def dice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return 1 minus the soft Dice coefficient, a mean over N masks, N at least 1.

    Both are float of shape (N, H, W), the targets in [0, 1]. Milletari et al., 3DV 2016, with sums
    where they have sums of squares. One more pixel above and below the line keeps it defined where
    both are empty.
    """
    found = logits.sigmoid().flatten(1)
    truth = targets.flatten(1)
    both = 2 * (found * truth).sum(1)
    return (1 - (both + 1) / (found.sum(1) + truth.sum(1) + 1)).mean()


@META_ARCH_REGISTRY.register()
class UNet(nn.Module):
    """U-Net (Ronneberger et al., MICCAI 2015) on Detectron2's ResNet or a network of timm.

    The encoder is the backbone that the config names, so that pretrained weights and ``FREEZE_AT``
    are those of Mask R-CNN; decoder and head are the ones that
    ``segmentation_models_pytorch.Unet`` has by default.

    Raises:
        LesionError: if segmentation-models-pytorch is not installed, or the network of timm has no
            features of strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        try:
            from segmentation_models_pytorch import Unet
        except ImportError as error:
            raise LesionError(
                f"MODEL.META_ARCHITECTURE: UNet needs segmentation-models-pytorch ({error}); "
                "install it with pip install segmentation-models-pytorch"
            ) from error
        self.backbone: Any = build_backbone(cfg)
        name = f"resnet{cfg.MODEL.RESNETS.DEPTH}"
        if isinstance(self.backbone, TimmBackbone):
            name = f"tu-{cfg.MODEL.TIMM.NAME}"
            strides = self.backbone.network.feature_info.reduction()
            if strides != [2, 4, 8, 16, 32]:
                raise LesionError(
                    f"MODEL.TIMM.NAME: {cfg.MODEL.TIMM.NAME} has features of strides {strides}; a "
                    "U-Net needs 2, 4, 8, 16 and 32"
                )
        whole = Unet(name, encoder_weights=None)
        self.decoder = whole.decoder
        self.head = whole.segmentation_head
        shape = (-1, 1, 1)
        self.register_buffer("pixel_mean", torch.tensor(cfg.MODEL.PIXEL_MEAN).view(shape), False)
        self.register_buffer("pixel_std", torch.tensor(cfg.MODEL.PIXEL_STD).view(shape), False)

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.get_buffer("pixel_mean").device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Return the losses of a batch in training, :meth:`inference` of it otherwise."""
        if not self.training:
            return self.inference(batched_inputs)
        images = self._images(batched_inputs)
        losses: dict[str, list[torch.Tensor]] = {"loss_bce": [], "loss_dice": []}
        logits = self._logits(images)
        for (height, width), found, item in zip(
            images.image_sizes, logits, batched_inputs, strict=True
        ):
            part = found[None, :height, :width]  # not what the batch was padded with
            masks = item["instances"].gt_masks.tensor.to(self.device)
            truth = masks.any(0, keepdim=True).float()
            losses["loss_bce"].append(binary_cross_entropy_with_logits(part, truth))
            losses["loss_dice"].append(dice_loss(part, truth))
        return {name: torch.stack(values).mean() for name, values in losses.items()}

    def inference(
        self, batched_inputs: list[dict[str, Any]], do_postprocess: bool = False
    ) -> list[Instances]:
        """Return one instance an image, as Mask R-CNN does without post-processing.

        Its box is the image, its mask soft, of shape (1, H, W). Its score is the mean probability
        of the pixels that it calls lesion, or the highest of all if it calls none so.
        """
        assert not do_postprocess
        images = self._images(batched_inputs)
        results = []
        for (height, width), found in zip(images.image_sizes, self._logits(images), strict=True):
            soft = found[:height, :width].sigmoid()
            lesion = soft[soft >= 0.5]
            scores = (lesion.mean() if len(lesion) else soft.max())[None]
            boxes = Boxes(soft.new_tensor([[0, 0, width, height]]))
            masks = soft[None, None]
            results.append(
                Instances((height, width), pred_boxes=boxes, scores=scores, pred_masks=masks)
            )
        return results

    def _images(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        images = [item["image"].to(self.device) for item in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(images, 32)  # what the encoder divides its input's sides by

    def _logits(self, images: ImageList) -> torch.Tensor:
        x = images.tensor
        if isinstance(self.backbone, TimmBackbone):
            features = [x, *self.backbone.network(x)]
        else:
            half = relu(self.backbone.stem.conv1(x))  # the stem's own output is pooled
            features = [x, half]
            x = max_pool2d(half, kernel_size=3, stride=2, padding=1)
            for stage in self.backbone.stages:
                x = stage(x)
                features.append(x)
        return self.head(self.decoder(features))[:, 0].float()
