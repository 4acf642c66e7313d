"""Floating-point operations of a training step, and how fast the machine multiplies matrices."""

import torch
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lesion_d2.benchmark.steps import Batch

MATRIX_SIDE = 2048


class MatrixProduct:
    """Calls multiply two square matrices each."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        shape = (MATRIX_SIDE, MATRIX_SIDE)
        self._left, self._right = (torch.rand(shape, device=device).to(dtype) for _ in "ab")
        self.operations = 2.0 * MATRIX_SIDE**3

    def __call__(self) -> None:
        """Multiply."""
        torch.mm(self._left, self._right)


def step_operations(model: nn.Module, batch: Batch) -> float:
    """Return the operations of forward and backward pass, a multiplication and an addition as two.

    Args:
        model: a Detectron2 model in training mode, with its frozen parameters marked.
        batch: with instances.
    """
    with FlopCounterMode(display=False) as counter, EventStorage():
        torch.stack(list(model(batch).values())).sum().backward()
    model.zero_grad()
    return float(counter.get_total_flops())
