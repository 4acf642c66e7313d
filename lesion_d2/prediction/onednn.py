"""Convolutions whose weights oneDNN has laid out once, and what follows them in the same pass.

torch hands oneDNN the weights of a convolution in torch's own layout, and oneDNN copies them into
its own at each call. The operators here are the ones that ``torch.compile`` uses on a CPU; called
directly they need neither a compiler nor time to compile.
"""

from typing import cast

import torch
from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn
from torch.nn.functional import relu


class PackedConv2d(nn.Module):
    """A convolution for inference on a CPU.

    Args:
        conv: on the CPU, in the layout and precision to compute in, without a norm.
        with_relu: clamp the result at 0; a ReLU that ``conv`` has itself is kept in any case.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, conv: Conv2d, *, with_relu: bool = False) -> None:
        super().__init__()
        assert conv.norm is None
        own_relu = conv.activation is relu or isinstance(conv.activation, nn.ReLU)
        self._activation = None if own_relu else conv.activation
        self._post = "relu" if own_relu or with_relu else "none"
        self._geometry = (
            list(cast(tuple[int, ...], conv.padding)),
            list(conv.stride),
            list(conv.dilation),
            conv.groups,
        )
        self.register_buffer("weight", conv.weight.detach())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self._packed: tuple[torch.Size, torch.Tensor] | None = None

    def _weight_for(self, x: torch.Tensor) -> torch.Tensor:
        """Return the weights in the layout that oneDNN wants for maps of that shape."""
        packed = self._packed  # read once: another thread may replace it
        if packed is None or packed[0] != x.shape:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, *self._geometry, list(x.shape)
            )
            packed = self._packed = (x.shape, weight)
        return packed[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve maps of shape (N, C, H, W), in the precision of the weights."""
        x = x.to(self.weight.dtype)
        x = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight_for(x), self.bias, *self._geometry, self._post, [], ""
        )
        return x if self._activation is None else self._activation(x)

    def onto(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Convolve ``x``, add the result to ``total`` in place, clamp that at 0, and return it."""
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            *(total, x, self._weight_for(x), self.bias, *self._geometry),
            *("add", 1.0, "relu", [], ""),
        )


class PackedBottleneck(nn.Module):
    """Detectron2's bottleneck block, its additions and ReLUs done by the convolutions.

    It overwrites its input where that is its shortcut too: an output of the block before, which no
    one else reads, since only the last block of a stage has readers outside.
    """

    def __init__(self, block: BottleneckBlock) -> None:
        super().__init__()
        self.conv1 = PackedConv2d(block.conv1, with_relu=True)
        self.conv2 = PackedConv2d(block.conv2, with_relu=True)
        self.conv3 = PackedConv2d(block.conv3)
        self.shortcut = PackedConv2d(block.shortcut) if block.shortcut else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output for maps of shape (N, C, H, W)."""
        total = self.shortcut(x) if self.shortcut else x
        return self.conv3.onto(total, self.conv2(self.conv1(x)))


def pack_convolutions(module: nn.Module) -> None:
    """Replace Detectron2's convolutions and bottleneck blocks below a module by packed ones.

    On a machine without oneDNN, and on a GPU, nothing is changed.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for name, child in module.named_children():
        if type(child) is BottleneckBlock:
            setattr(module, name, PackedBottleneck(child))
        elif type(child) is Conv2d and child.weight.device.type == "cpu":
            setattr(module, name, PackedConv2d(child))
        else:
            pack_convolutions(child)
