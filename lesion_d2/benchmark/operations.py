"""Floating-point operations of a training step, and how fast the machine multiplies matrices."""

import warnings
from typing import Any

import torch
from detectron2.utils.analysis import FlopCountAnalysis
from detectron2.utils.events import EventStorage
from torch import nn

from lesion_d2.benchmark.steps import Batch
from lesion_d2.engine.staged_freeze import backbone_blocks


class MatrixProduct:
    """Calls multiply two square matrices each."""

    def __init__(self, side: int, dtype: torch.dtype, device: str) -> None:
        self._left, self._right = (torch.rand(side, side, device=device).to(dtype) for _ in "ab")
        self.operations = 2.0 * side**3
        self.dtype_name = str(dtype).removeprefix("torch.")

    def __call__(self) -> None:
        """Multiply."""
        torch.mm(self._left, self._right)


def step_operations(model: nn.Module, batch: Batch, freeze_at: int) -> float:
    """Return the operations of forward and backward pass, a multiplication and an addition as two.

    fvcore counts those of the forward pass. The backward pass has twice as many, for the gradients
    of weights and of inputs, but none in frozen modules, which come first.

    Args:
        model: a Detectron2 Mask R-CNN in training mode.
        batch: with instances.
        freeze_at: how many modules of the backbone are frozen.
    """
    with warnings.catch_warnings(), EventStorage(), torch.no_grad():
        warnings.simplefilter("ignore")
        analysis: Any = FlopCountAnalysis(model, list(batch))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts = analysis.tracer_warnings("none").by_module()
    names = {module: name for name, module in model.named_modules()}
    frozen = sum(counts[f"model.{names[block]}"] for _, block in backbone_blocks(model)[:freeze_at])
    return 2.0 * (counts[""] + 2 * (counts[""] - frozen))
