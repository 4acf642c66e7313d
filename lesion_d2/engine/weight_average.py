"""An average of the weights along the run, which is often better than where the run ends."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

logger = logging.getLogger(__name__)


class WeightAverage(HookBase):
    """Keeps an exponential moving average of weights and running statistics.

    Its decay rises as in TensorFlow's ``ExponentialMovingAverage``, to min(decay, (1 + n) / (10 +
    n)) after n steps, so that the average soon forgets the start. Must come before the hooks that
    evaluate or write checkpoints. It is part of each checkpoint.

    Args:
        model: what is averaged, not wrapped.
        decay: what remains of the average in a step, below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        def move(
            average: Sequence[torch.Tensor], current: Sequence[torch.Tensor], count: Any
        ) -> None:
            now = min(decay, (1 + int(count)) / (10 + int(count)))
            get_ema_multi_avg_fn(now)(average, current, count)

        self._current = model
        self._average = AveragedModel(model, multi_avg_fn=move, use_buffers=True)

    @property
    def model(self) -> nn.Module:
        """The model with averaged weights."""
        return self._average.module

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged model and how many steps it has seen."""
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._average.load_state_dict(state)

    def before_train(self) -> None:
        """Say what is validated."""
        logger.info("Validation and model_best are of the average of the weights")

    def after_step(self) -> None:
        """Move the average towards the weights of this step."""
        self._average.update_parameters(self._current)
