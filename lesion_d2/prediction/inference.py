"""Making a trained model faster, for good: it cannot be trained on."""

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import GeneralizedRCNN
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lesion_d2.prediction.onednn import pack_convolutions

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)
_COMPUTED_IN_PRECISION = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def computing_in(precision: str, model: GeneralizedRCNN) -> torch.autocast:
    """Return a context in which a model computes in a precision of :data:`PRECISIONS`.

    Weights that are not of this precision are converted once in a context.
    """
    dtype = PRECISIONS[precision]
    return torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32)


def prepare_for_inference(model: GeneralizedRCNN, precision: str) -> None:
    """Change a model so that it finds the same in less time.

    Norms, fixed now, become part of the convolutions before them. The weights are laid out and
    stored as :func:`computing_in` needs them, which it would else see to for each image. On a CPU
    they are packed for oneDNN (:mod:`lesion_d2.prediction.onednn`).

    Args:
        model: in evaluation mode from here on.
        precision: key of :data:`PRECISIONS`.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, Conv2d) and isinstance(module.norm, _NORMS):
            norm = module.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            module.weight, module.bias = fuse_conv_bn_weights(
                module.weight,
                module.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            module.norm = None
        if isinstance(module, _COMPUTED_IN_PRECISION):
            module.to(PRECISIONS[precision])
    model.to(memory_format=torch.channels_last)
    pack_convolutions(model)
