"""Small training hooks: seeding, validation losses, progress bar."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm.contrib.logging import logging_redirect_tqdm

from lesion_d2.parallel import progress_bar


class SeedEachStep(HookBase):
    """Makes what the model draws in a step (anchors, proposals) a function of seed and iteration.

    Together with a data stream that is one too, a resumed run repeats what a run that was never
    stopped would have done.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_step(self) -> None:
        """Seed torch for this iteration and process."""
        entropy = np.random.SeedSequence([self._seed, self.trainer.iter, comm.get_rank()])
        torch.manual_seed(int(entropy.generate_state(1)[0]))


class ValidationLosses(HookBase):
    """Computes the training losses on validation data and stores their means as ``val_*``.

    Args:
        period: iterations between computations; there is one after the last iteration, too.
        build_loader: returns a loader of batches with instances; each process gets its share.
    """

    def __init__(self, period: int, build_loader: Callable[[], DataLoader]) -> None:
        self._period = period
        self._build_loader = build_loader

    def after_step(self) -> None:
        """Compute the losses when a period ends."""
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            self._compute()

    @torch.no_grad()
    def _compute(self) -> None:
        model = self.trainer.model
        if isinstance(model, DistributedDataParallel):
            model = model.module
        # The losses exist in training mode only; running statistics must not see this data.
        norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        modes = [norm.training for norm in norms]
        for norm in norms:
            norm.eval()
        torch.manual_seed(0)  # the same anchors and proposals are drawn each time
        sums: dict[str, float] = {}
        images = 0
        with EventStorage():  # the heads' own statistics belong to training, not here
            loader = self._build_loader()
            for batch in progress_bar(
                loader, "validation losses", disable=not comm.is_main_process()
            ):
                for name, loss in model(batch).items():
                    sums[name] = sums.get(name, 0.0) + float(loss) * len(batch)
                images += len(batch)
        for norm, mode in zip(norms, modes, strict=True):
            norm.train(mode)

        parts: list[tuple[dict[str, float], int]] = comm.gather((sums, images))
        if comm.is_main_process():
            total = sum(count for _, count in parts)
            names = {name for part, _ in parts for name in part}
            means = {
                f"val_{name}": sum(part.get(name, 0.0) for part, _ in parts) / total
                for name in sorted(names)
            }
            means["val_total_loss"] = sum(means.values())
            self.trainer.storage.put_scalars(**means, smoothing_hint=False)


class ProgressBar(HookBase):
    """Shows a bar over the whole run, with the time left, the stage and the loss."""

    def before_train(self) -> None:
        """Open the bar at the iteration the run starts from."""
        self._stack = ExitStack()
        self._stack.enter_context(logging_redirect_tqdm())
        self._bar = self._stack.enter_context(
            progress_bar(
                desc="training", total=self.trainer.max_iter, initial=self.trainer.start_iter
            )
        )

    def after_step(self) -> None:
        """Advance the bar."""
        latest: dict[str, Any] = self.trainer.storage.latest()
        self._bar.set_postfix(
            refresh=False,
            loss=f"{latest['total_loss'][0]:.3f}" if "total_loss" in latest else "?",
            freeze_at=int(latest["stage"][0]),
        )
        self._bar.update()

    def after_train(self) -> None:
        """Close the bar."""
        self._stack.close()
