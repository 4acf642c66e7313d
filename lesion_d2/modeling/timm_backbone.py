"""Any network of timm with a pyramid of features, as a Detectron2 backbone under an FPN."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class TimmBackbone(Backbone):
    """Features of a timm network, named by their strides as in Detectron2's ResNet.

    Its modules fall into five blocks, which ``FREEZE_AT`` counts along: ``stem`` ends with the
    features of stride 2 (or before the first ones, of stride 4), ``res2`` with those of stride 4,
    and so on to ``res5``.

    Raises:
        LesionError: if timm is not installed or has no such network, or the network does not have
            features of strides 4, 8, 16 and 32 one after the other, or takes images of one size
            only.
    """

    stage_names = tuple(STRIDES)

    def __init__(self, name: str, freeze_at: int = 0) -> None:
        super().__init__()
        # Depthwise convolutions on a CPU are faster in this layout.
        self.network = create_network(name).to(memory_format=torch.channels_last)
        info = self.network.feature_info
        self._strides = info.reduction()
        channels = dict(zip(self._strides, info.channels(), strict=True))
        if not channels.keys() >= set(STRIDES.values()) or not all(
            list(block.parameters()) for block in self._blocks()
        ):
            raise LesionError(
                f"MODEL.TIMM.NAME: {name} has features of strides {self._strides} from its modules "
                f"{info.module_name()}; an FPN needs 4, 8, 16 and 32, one after the other"
            )
        self._out_features = list(STRIDES)
        self._out_feature_strides = dict(STRIDES)
        self._out_feature_channels = {key: channels[stride] for key, stride in STRIDES.items()}
        self._demand_any_size(name)
        for block in self._blocks()[:freeze_at]:
            block.requires_grad_(False)

    @property
    def stem(self) -> nn.Module:
        """The first block."""
        return self._blocks()[0]

    @property
    def stages(self) -> list[nn.Module]:
        """The other blocks."""
        return self._blocks()[1:]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the features of images of shape (N, 3, H, W): (N, C, H / stride, W / stride)."""
        features = dict(zip(self._strides, self.network(x), strict=True))
        return {name: features[stride] for name, stride in STRIDES.items()}

    @torch.no_grad()
    def _demand_any_size(self, name: str) -> None:
        self.eval()
        try:
            found = {key: tuple(x.shape[1:]) for key, x in self(torch.zeros(1, 3, 64, 96)).items()}
        except Exception as error:  # each family of networks refuses in its own way
            raise LesionError(
                f"MODEL.TIMM.NAME: {name} does not take an image of 64x96 pixels ({error}); give a "
                "network for images of any size"
            ) from error
        self.train()
        channels = self._out_feature_channels
        expected = {key: (channels[key], 64 // step, 96 // step) for key, step in STRIDES.items()}
        if found != expected:
            raise LesionError(
                f"MODEL.TIMM.NAME: {name} gives features of shapes {found}, an FPN needs "
                f"{expected}; give another network"
            )

    def _blocks(self) -> list[nn.Module]:
        names = [name.replace(".", "_") for name in self.network.feature_info.module_name()]
        last = dict(zip(names, self._strides, strict=True))  # of a block: name to stride
        blocks = [nn.ModuleList() for _ in range(1 + len(STRIDES))]
        index = 0
        for name, module in self._modules_in_order(names):
            if name in last:
                index = max(last[name].bit_length() - 2, 0)  # stride 2 ends block 0, 4 block 1
            blocks[index].append(module)
            if last.get(name, 1) > 1:
                index = min(index + 1, len(STRIDES))
        return list(blocks)

    def _modules_in_order(self, names: list[str]) -> list[tuple[str, nn.Module]]:
        """Return the network's children, and instead of what contains one of ``names`` its own."""
        found: list[tuple[str, nn.Module]] = []
        for name, child in self.network.named_children():
            if name not in names and any(other.startswith(f"{name}_") for other in names):
                found += [(f"{name}_{key}", part) for key, part in child.named_children()]
            else:
                found.append((name, child))
        return found

    @torch.no_grad()
    def fold_norms(self) -> None:
        """Make norms, fixed now, part of the convolutions before them; it cannot train any more.

        Which convolution a norm follows is seen in one pass, whatever the network's code is.
        """
        self.eval()
        found: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}  # by id of what it gave, kept alive
        pairs: list[tuple[nn.Conv2d, str]] = []

        def remember(module: nn.Conv2d, _: Any, result: torch.Tensor) -> None:
            found[id(result)] = module, result

        def pair(name: str, _: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if id(inputs[0]) in found:
                pairs.append((found[id(inputs[0])][0], name))

        hooks = []
        for name, module in self.network.named_modules():
            if isinstance(module, nn.Conv2d):
                hooks.append(module.register_forward_hook(remember))
            elif isinstance(module, nn.BatchNorm2d):
                hooks.append(module.register_forward_pre_hook(partial(pair, name)))
        parameter = next(self.parameters())
        self.network(parameter.new_zeros(1, 3, 64, 64))
        for hook in hooks:
            hook.remove()
        for conv, name in pairs:
            norm = self.network.get_submodule(name)
            folded = fuse_conv_bn_eval(conv, norm)
            conv.weight, conv.bias = folded.weight, folded.bias
            self.network.set_submodule(name, getattr(norm, "act", nn.Identity()))


def create_network(name: str) -> Any:
    """Return a timm network that gives features, with random weights.

    Raises:
        LesionError: if timm is not installed or has no such network, or it gives no features.
    """
    try:
        import timm
    except ImportError as error:
        raise LesionError(f"MODEL.TIMM.NAME needs timm ({error}): pip install timm") from error
    try:
        return timm.create_model(name, features_only=True)
    except Exception as error:  # each family of networks refuses in its own way
        raise LesionError(
            f"MODEL.TIMM.NAME: {name or '(empty)'}: {error}; give one of timm.list_models() that "
            "has features"
        ) from error


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build the network ``MODEL.TIMM.NAME``, without an FPN."""
    return TimmBackbone(cfg.MODEL.TIMM.NAME, cfg.MODEL.BACKBONE.FREEZE_AT)


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build Detectron2's FPN on the network ``MODEL.TIMM.NAME``."""
    bottom_up = build_timm_backbone(cfg, input_shape)
    fpn, top = cfg.MODEL.FPN, LastLevelMaxPool()
    return FPN(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, top, fpn.FUSE_TYPE)


def write_timm_weights(name: str, source: Path | None, output: Path) -> None:
    """Write the weights of a network's features, as a file for ``MODEL.WEIGHTS``.

    The source has its weights under timm's names or, in the same order and shapes, under others;
    without one timm downloads its own.

    Raises:
        LesionError: if there is no such network, or the weights cannot be had or are not its own.
    """
    if source and not source.is_file():
        raise LesionError(f"{source}: no such file; give a file of weights of {name}")
    wanted = create_network(name).state_dict()
    import timm

    try:
        if source:
            given = timm.models.load_state_dict(str(source), weights_only=True)
            own = timm.create_model(name).state_dict()
            if _kinds(own) == _kinds(given):
                given = dict(zip(own, given.values(), strict=True))
        else:
            given = timm.create_model(name, features_only=True, pretrained=True).state_dict()
    except Exception as error:  # a download fails in as many ways as there are networks
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise LesionError(
            f"{source}: not weights that can be read without running code ({reason}); give a .pth "
            "or .safetensors file"
            if source
            else f"{name}: timm cannot fetch its weights ({reason}); give a file of them as "
            "--source"
        ) from error
    # The feature network joins by "_" what the whole network joins by ".".
    given = {key.replace(".", "_"): value for key, value in given.items()}
    found = {key: given.get(key.replace(".", "_")) for key in wanted}
    wrong = [key for key, value in found.items() if _shape(value) != wanted[key].shape]
    if wrong:
        raise LesionError(
            f"{source}: {len(wrong)} of {len(wanted)} tensors of {name} are missing or have "
            f"another shape, {wrong[0]} the first; give a file of this network's weights"
        )
    state = {f"network.{key}": value for key, value in found.items()}
    # Detectron2 then finds the part of the model whose names end so: with an FPN or without.
    content = {"model": state, "matching_heuristics": True}
    with atomic_write(output, "wb") as stream:
        torch.save({**content, "network": name, "source": source and source.name}, stream)


def _kinds(state: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key.rpartition(".")[2], _shape(value)) for key, value in state.items()]


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, torch.Tensor) else None
