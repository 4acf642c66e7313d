"""Making a trained model faster, for good: it cannot be trained on."""

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import GeneralizedRCNN
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lesion_d2.modeling.precision import PRECISIONS
from lesion_d2.modeling.timm_backbone import TimmBackbone

# Norms that are one factor and one offset for each channel when a model is evaluated.
_FIXED_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)
_COMPUTED_IN_PRECISION = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def prepare_for_inference(model: GeneralizedRCNN, precision: str) -> None:
    """Change a model so that it finds the same in less time, on any device.

    Norms that are fixed now become part of the convolutions before them. The weights are laid out
    and stored as :func:`lesion_d2.modeling.precision.computing_in` needs them, which it would else
    see to for each image.

    Args:
        model: in evaluation mode from here on.
        precision: key of :data:`~lesion_d2.modeling.precision.PRECISIONS`.
    """
    model.eval()
    fold_norms(model)
    for module in model.modules():
        if isinstance(module, _COMPUTED_IN_PRECISION):
            module.to(PRECISIONS[precision])
    model.to(memory_format=torch.channels_last)


def fold_norms(model: nn.Module) -> None:
    """Make norms that are fixed in evaluation part of the convolutions before them."""
    for module in list(model.modules()):
        if isinstance(module, TimmBackbone):
            module.fold_norms()
        elif isinstance(module, Conv2d) and _fold(module, module.norm):
            module.norm = None


def _fold(conv: nn.Conv2d, norm: nn.Module | None) -> bool:
    """Let a convolution do what the norm after it does; whether it can."""
    if not isinstance(norm, _FIXED_NORMS) or norm.running_mean is None or norm.running_var is None:
        return False
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    return True
