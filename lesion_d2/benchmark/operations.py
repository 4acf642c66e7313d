"""Floating-point operations of a training step, and how fast the machine multiplies matrices."""

from collections.abc import Callable
from functools import partial

import torch
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lesion_d2.benchmark.steps import Batch

MATRIX_SIDE = 2048


def matrix_product(dtype: torch.dtype, device: str) -> Callable[[], object]:
    """Return what multiplies two matrices of MATRIX_SIDE x MATRIX_SIDE."""
    shape = (MATRIX_SIDE, MATRIX_SIDE)
    return partial(torch.mm, *(torch.rand(shape, device=device).to(dtype) for _ in "ab"))


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
