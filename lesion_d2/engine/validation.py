"""Validation during training: losses and metrics, and the best model so far."""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils.data import DataLoader

from lesion_d2.engine.checkpoint import LesionCheckpointer


class Validation(HookBase):
    """Evaluates after each period and the last iteration, and keeps the best model.

    It comes after the hook that writes the checkpoints, so that an evaluation that fails loses no
    step. A checkpoint of the same iteration therefore knows nothing of its evaluation: a run that
    continues from it evaluates first.

    Args:
        period: iterations between evaluations.
        evaluate: returns metrics by name, nested or not; None off the main process.
        checkpointer: writes the best model, when ``metric`` reaches a new maximum.
        metric: name of one of the metrics, parts joined by ``/``.

    Attributes:
        iteration: of the last evaluation, -1 before the first.
        summary: what that one found, in a phrase.
    """

    BEST = "model_best"

    def __init__(
        self,
        period: int,
        evaluate: Callable[[], dict[str, Any] | None],
        checkpointer: LesionCheckpointer,
        metric: str,
    ) -> None:
        self._period = period
        self._evaluate = evaluate
        self._checkpointer = checkpointer
        self._metric = metric
        self._best = float("-inf")
        self._best_iteration = -1
        self.iteration = -1
        self.summary = ""

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far and its iteration, as plain numbers."""
        return {"best": self._best, "iteration": self._best_iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._best, self._best_iteration = state["best"], state["iteration"]

    def before_train(self) -> None:
        """Repeat the evaluation that followed the checkpoint which the run continues from."""
        start = self.trainer.start_iter
        if start:
            self.trainer.iter = start - 1
            self.after_step()
            self.trainer.iter = start

    def after_step(self) -> None:
        """Evaluate when a period ends."""
        iteration = self.trainer.iter
        if (iteration + 1) % self._period and iteration + 1 < self.trainer.max_iter:
            return
        results = self._evaluate()
        comm.synchronize()
        if not results:
            return
        # Plain numbers: a numpy scalar would make the checkpoint unreadable under weights_only.
        metrics = {name: float(value) for name, value in flatten_results_dict(results).items()}
        self.trainer.storage.put_scalars(cur_iter=iteration, smoothing_hint=False, **metrics)
        value = metrics[self._metric]
        if value > self._best:
            self._best, self._best_iteration = value, iteration
            self._checkpointer.save(self.BEST, tag=False)
        self.iteration = iteration
        self.summary = (
            f"validation loss {metrics['val_total_loss']:.3f}, {self._metric} {value:.4f}, "
            f"best {self._best:.4f} of iteration {self._best_iteration}"
        )


@torch.no_grad()
def validation_losses(model: nn.Module, loader: DataLoader) -> dict[str, float]:
    """Return the mean training losses over validation data, as ``val_*``.

    Args:
        model: in training mode, not wrapped; it stays as it is.
        loader: gives batches with instances, to each process its share.

    Returns:
        each loss and ``val_total_loss``; empty off the main process.
    """
    # The losses exist in training mode only; running statistics must not see this data.
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    modes = [norm.training for norm in norms]
    for norm in norms:
        norm.eval()
    torch.manual_seed(0)  # the same anchors and proposals are drawn each time
    sums: dict[str, float] = {}
    images = 0
    with EventStorage():  # the heads' own statistics belong to training, not here
        for batch in loader:
            for name, loss in model(batch).items():
                sums[name] = sums.get(name, 0.0) + float(loss) * len(batch)
            images += len(batch)
    for norm, mode in zip(norms, modes, strict=True):
        norm.train(mode)

    parts: list[tuple[dict[str, float], int]] = comm.gather((sums, images))
    if not comm.is_main_process():
        return {}
    total = sum(count for _, count in parts)
    names = sorted({name for part, _ in parts for name in part})
    means = {f"val_{name}": sum(part.get(name, 0.0) for part, _ in parts) / total for name in names}
    return means | {"val_total_loss": sum(means.values())}
