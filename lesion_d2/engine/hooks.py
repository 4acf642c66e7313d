"""Training hooks: seeding, old checkpoints, weight average, validation, what a terminal shows."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.engine import hooks as d2_hooks
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from lesion_d2.engine.checkpoint import LesionCheckpointer
from lesion_d2.parallel import progress_bar

logger = logging.getLogger(__name__)


class SeedEachStep(HookBase):
    """Makes what the model draws in a step (anchors, proposals) a function of seed and iteration.

    Together with a data stream that follows from them as well, a resumed run repeats what a run
    that was never stopped would have done.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_step(self) -> None:
        """Seed torch for this iteration and process."""
        entropy = np.random.SeedSequence([self._seed, self.trainer.iter, comm.get_rank()])
        torch.manual_seed(int(entropy.generate_state(1)[0]))


class PeriodicCheckpointer(d2_hooks.PeriodicCheckpointer):
    """Detectron2's hook, which also knows the checkpoints from before a resume."""

    def before_train(self) -> None:
        """Remove all but the newest of them, as many as are to be kept."""
        super().before_train()
        files = Path(self.checkpointer.save_dir).glob(f"{self.file_prefix}_" + "[0-9]" * 7 + ".pth")
        # Later ones than the run continues from are written again.
        older = [file for file in sorted(files) if int(file.stem[-7:]) < self.trainer.start_iter]
        for file in older[: -self.max_to_keep]:
            file.unlink()
        self.recent_checkpoints = [str(file) for file in older[-self.max_to_keep :]]


class WeightAverage(HookBase):
    """Keeps an exponential moving average of the weights and running statistics of a bare model.

    What remains of it in a step rises as in TensorFlow's ``ExponentialMovingAverage``, to
    min(decay, (1 + n) / (10 + n)) after n steps, so that the average soon forgets the start. Must
    come before the hooks that evaluate or write checkpoints. It is part of each checkpoint.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        def move(average: Any, current: Any, count: Any) -> None:
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


class Validation(HookBase):
    """Evaluates after each period and the last iteration, and keeps the best model.

    It comes after the hook that writes the checkpoints, so that an evaluation that fails loses no
    step. A checkpoint of the same iteration therefore knows nothing of its evaluation: a run that
    continues from it evaluates first.

    ``evaluate`` returns metrics by name, nested or not; None off the main process. The best model
    is that of the highest mean max IoU. ``measured`` says in plain values what is evaluated and
    how: a run that goes on with others looks for the best anew. ``iteration`` is of the last
    evaluation, -1 before the first, and ``summary`` says what it found.
    """

    def __init__(
        self,
        period: int,
        evaluate: Callable[[], dict[str, Any] | None],
        checkpointer: LesionCheckpointer,
        measured: dict[str, Any],
    ) -> None:
        self._measured = measured
        self._period = period
        self._evaluate = evaluate
        self._checkpointer = checkpointer
        self._best = float("-inf")
        self._best_iteration = -1
        self.iteration = -1
        self.summary = ""

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, its iteration and what was measured, as plain values."""
        return {
            "best": self._best,
            "iteration": self._best_iteration,
            "measured": self._measured,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        before = state.get("measured", self._measured)
        changed = [key for key, value in self._measured.items() if before.get(key) != value]
        if changed:
            logger.warning(
                "validation is another than before (%s): the best model is looked for anew, "
                "model_best.pth will be replaced",
                ", ".join(changed),
            )
            return
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
        value = metrics["lesion/mean_max_iou"]
        if value > self._best:
            self._best, self._best_iteration = value, iteration
            self._checkpointer.save("model_best", tag=False)
        self.iteration = iteration
        self.summary = (
            f"validation loss {metrics['val_total_loss']:.3f}, lesion/mean_max_iou "
            f"{value:.4f}, best {self._best:.4f} of iteration {self._best_iteration}"
        )


@torch.no_grad()
def validation_losses(model: nn.Module, loader: DataLoader) -> dict[str, float]:
    """Return the mean training losses over validation data, as ``val_*``, and ``val_total_loss``.

    The model, in training mode and not wrapped, stays as it is. Each process has its share of the
    batches, which have instances; off the main process nothing is returned.
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


class ProgressBar(HookBase):
    """Shows a bar over the whole run, and a line after each epoch and each validation.

    Must come after the hooks that write checkpoints and validate. An ``epoch`` is in iterations.
    """

    def __init__(
        self, epoch: int, checkpointer: LesionCheckpointer, validation: Validation | None
    ) -> None:
        self._epoch = epoch
        self._checkpointer = checkpointer
        self._validation = validation

    def before_train(self) -> None:
        """Open the bar at the iteration the run starts from."""
        total, initial = self.trainer.max_iter, self.trainer.start_iter
        self._bar = progress_bar(desc="training", total=total, initial=initial)
        self._stack = ExitStack()
        self._stack.enter_context(logging_redirect_tqdm())
        self._stack.enter_context(self._bar)

    def after_step(self) -> None:
        """Advance the bar."""
        latest = {name: value for name, (value, _) in self.trainer.storage.latest().items()}
        self._bar.set_postfix_str(
            f"loss {latest['total_loss']:.3f}, lr {latest['lr']:.1e}, "
            f"FREEZE_AT {latest['stage']:.0f}",
            refresh=False,
        )
        self._bar.update()
        done = self.trainer.iter + 1
        news = [f"loss {self.trainer.storage.history('total_loss').median(self._epoch):.3f}"]
        if self._validation and self._validation.iteration == self.trainer.iter:
            news.append(self._validation.summary)
        elif done % self._epoch and done < self.trainer.max_iter:
            return
        checkpoint = Path(self._checkpointer.get_checkpoint_file()).name or "none yet"
        epochs = f"epoch {done / self._epoch:g} of {self.trainer.max_iter / self._epoch:g}"
        line = f"{epochs}: {', '.join(news)}, checkpoint {checkpoint}"
        tqdm.write(line)
        logger.info(line)

    def after_train(self) -> None:
        """Close the bar."""
        self._stack.close()
