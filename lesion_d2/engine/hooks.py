"""Small training hooks: seeding, old checkpoints, what a terminal shows."""

import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.engine import hooks as d2_hooks
from detectron2.utils import comm
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from lesion_d2.engine.checkpoint import LesionCheckpointer
from lesion_d2.engine.validation import Validation
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


class ProgressBar(HookBase):
    """Shows a bar over the whole run, and a line after each epoch and each validation.

    Must come after the hooks that write checkpoints and validate.

    Args:
        epoch: iterations of one.
        checkpointer: wrote the checkpoints.
        validation: if there is one.
    """

    def __init__(
        self, epoch: int, checkpointer: LesionCheckpointer, validation: Validation | None
    ) -> None:
        self._epoch = epoch
        self._checkpointer = checkpointer
        self._validation = validation

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
        line = (
            f"epoch {done / self._epoch:g} of {self.trainer.max_iter / self._epoch:g}: "
            f"{', '.join(news)}, checkpoint {checkpoint}"
        )
        tqdm.write(line)
        logger.info(line)

    def after_train(self) -> None:
        """Close the bar."""
        self._stack.close()
