"""Freezing and thawing the backbone in stages, within one run."""

import logging
from typing import Any

import torch
from detectron2.engine import HookBase, create_ddp_model
from detectron2.utils import comm
from tabulate import tabulate
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from lesion_d2.config.schedule import Stage, stage_at

logger = logging.getLogger(__name__)


def backbone_blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return stem, res2, ... of a model's ResNet in order; ``FREEZE_AT`` counts along this list."""
    backbone: Any = model.backbone
    resnet = getattr(backbone, "bottom_up", backbone)
    return [("stem", resnet.stem), *zip(resnet.stage_names, resnet.stages, strict=True)]


def trainable_table(model: nn.Module) -> str:
    """Return a table of a Mask R-CNN's parts, their parameters and whether they train."""
    parts: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        if name == "backbone":
            parts += backbone_blocks(model)
            parts += [("fpn", part) for key, part in child.named_children() if key != "bottom_up"]
        elif name == "roi_heads":
            parts += [(f"roi_heads.{key}", part) for key, part in child.named_children()]
        else:
            parts.append((name, child))
    rows: dict[str, list[int]] = {}
    for name, part in parts:
        row = rows.setdefault(name, [0, 0])
        for parameter in part.parameters():
            row[0] += parameter.numel()
            row[1] += parameter.numel() * parameter.requires_grad
    lines = [
        (name, f"{total:,}", "trainable" if trains == total else "frozen")
        for name, (total, trains) in rows.items()
        if total
    ]
    heads, align = ("module", "parameters", "state"), ("left", "right", "left")
    return tabulate(lines, headers=heads, colalign=align, disable_numparse=True)


class StagedFreeze(HookBase):
    """Keeps the first modules of the backbone frozen as the stage of the iteration demands.

    The stage is a function of the iteration alone, so a resumed run starts in the right one. A
    frozen parameter has no gradient (None, not zero), and SGD leaves such parameters alone,
    momentum and weight decay included.

    The model must be unwrapped when training starts: with several processes the hook wraps it in
    ``DistributedDataParallel`` at each stage start, because the wrapper expects a gradient from
    just the parameters that trained when it was made. Running statistics, which the wrapper leaves
    to each process, are averaged over the processes after each step.
    """

    def __init__(self, stages: list[Stage]) -> None:
        self._stages = stages
        self._current: Stage | None = None
        self._frozen: list[nn.Module] = []

    def before_step(self) -> None:
        """Enter the iteration's stage if it is a new one."""
        stage = stage_at(self._stages, self.trainer.iter)
        if stage != self._current:
            self._enter(stage)
        for module in self._frozen:
            module.eval()  # running statistics of a frozen BatchNorm stay too; evaluation resets it
        self.trainer.storage.put_scalar("stage", stage.freeze_at, smoothing_hint=False)

    def after_step(self) -> None:
        """Give all processes the same running statistics, before they are averaged or saved."""
        if comm.get_world_size() == 1:
            return
        statistics = [
            getattr(module, name)
            for module in self.trainer._trainer.model.modules()
            for name in ("running_mean", "running_var")
            if module.training and getattr(module, name, None) is not None
        ]
        if statistics:
            mean = torch.cat(statistics)
            distributed.all_reduce(mean)
            mean /= comm.get_world_size()
            for own, shared in zip(
                statistics, mean.split([len(own) for own in statistics]), strict=True
            ):
                own.copy_(shared)

    def _enter(self, stage: Stage) -> None:
        loop = self.trainer._trainer
        model: Any = loop.model
        if isinstance(model, DistributedDataParallel):
            model = model.module
        blocks = [module for _, module in backbone_blocks(model)]
        for position, module in enumerate(blocks, start=1):
            module.train()
            for parameter in module.parameters():
                parameter.requires_grad = position > stage.freeze_at
                parameter.grad = None
        self._frozen = blocks[: stage.freeze_at]
        self._current = stage
        # A CPU process has no device ids, which Detectron2's wrapper would otherwise fill in.
        device_ids = [comm.get_local_rank()] if model.device.type == "cuda" else None
        loop.model = create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)
        span = f"{stage.freeze_at} from iteration {self.trainer.iter} to {stage.end}"
        logger.info("Stage with FREEZE_AT %s:\n%s", span, trainable_table(model))
