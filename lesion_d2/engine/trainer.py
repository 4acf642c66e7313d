"""The trainer of the experiment."""

import logging
import time
import weakref
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, DefaultTrainer, HookBase, SimpleTrainer, TrainerBase
from detectron2.engine import hooks as d2_hooks
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from torch import autocast, bfloat16, nn
from torch.utils.data import DataLoader

from lesion_d2.config.schedule import stages_from_config
from lesion_d2.data.loader import (
    build_test_loader,
    build_train_loader,
    build_validation_loss_loader,
)
from lesion_d2.engine.checkpoint import LesionCheckpointer
from lesion_d2.engine.hooks import (
    PeriodicCheckpointer,
    ProgressBar,
    SeedEachStep,
    Validation,
    WeightAverage,
    validation_losses,
)
from lesion_d2.engine.staged_freeze import StagedFreeze
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.lesion_evaluator import LesionEvaluator
from lesion_d2.modeling import build_network
from lesion_d2.modeling.precision import has_bfloat16, lay_out_for_bfloat16, settle_bfloat16
from lesion_d2.parallel import progress_bar
from lesion_d2.prediction.outliner import prediction_settings
from lesion_d2.prediction.segmenter import Segmenter

logger = logging.getLogger(__name__)


class BFloat16Trainer(SimpleTrainer):
    """Computes convolutions and matrix products in bfloat16; weights stay in 32 bits.

    bfloat16 has the range of float32, so that losses need no scaling. Detectron2's own loop scales
    them and runs on CUDA devices only.
    """

    def run_step(self) -> None:
        """Run one step of training; what is computed backwards follows the forward pass."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with autocast(self.model.device.type, bfloat16):
            losses = self.model(data)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()


def mixed_precision_loop(device: torch.device) -> type[SimpleTrainer]:
    """Return the loop that ``SOLVER.AMP.ENABLED`` asks for: bfloat16 but on an older GPU."""
    if device.type == "cuda" and not has_bfloat16(device):
        logger.warning("mixed precision is float16: this GPU has no instructions for bfloat16")
        return AMPTrainer
    logger.info("mixed precision is bfloat16")
    return BFloat16Trainer


class LesionTrainer(DefaultTrainer):
    """Trains in stages, validates each epoch, resumes exactly.

    The config must have been through :func:`lesion_d2.config.schedule.derive_schedule`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer.__init__ wraps the model in DistributedDataParallel for good and fails to
        # on CPUs; here the staged-freeze hook wraps it, and the checkpointer is the project's.
        TrainerBase.__init__(self)
        model: Any = self.build_model(cfg)
        loop: type[SimpleTrainer] = SimpleTrainer
        if cfg.SOLVER.AMP.ENABLED:
            loop = mixed_precision_loop(model.device)
        if loop is BFloat16Trainer and model.device.type == "cpu":
            settle_bfloat16(model.device, "SOLVER.AMP.ENABLED False")
            lay_out_for_bfloat16(model)
        optimizer = self.build_optimizer(cfg, model)
        self._trainer = loop(model, self.build_train_loader(cfg), optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.cfg = cfg
        self.checkpointer = self._build_checkpointer(model)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint, or load ``cfg.MODEL.WEIGHTS`` and start anew.

        Raises:
            LesionError: if the checkpoint is of another model or optimizer, or not all processes
                continue from the same.
        """
        try:
            super().resume_or_load(resume)
        except ValueError as error:
            raise LesionError(
                f"{self.checkpointer.get_checkpoint_file()}: of another model or optimizer "
                f"({error}); continue with the run's own config.yaml, or start anew in another "
                "OUTPUT_DIR"
            ) from error
        starts = comm.all_gather(self.start_iter)
        if len({*starts}) > 1:
            raise LesionError(
                f"OUTPUT_DIR: {self.cfg.OUTPUT_DIR}: the processes found checkpoints of different "
                f"iterations ({starts}); OUTPUT_DIR must be on a disk that all machines share"
            )
        self.data_loader.dataset.sampler.first_iteration = self.start_iter

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint; rates, decay and momentum stay the config's."""
        own = [dict(group) for group in self.optimizer.param_groups]
        if isinstance(self._trainer, AMPTrainer):  # a run that began on a CPU scaled no losses
            scaler = self._trainer.grad_scaler.state_dict()
            state_dict["_trainer"].setdefault("grad_scaler", scaler)
        super().load_state_dict(state_dict)
        groups = self.optimizer.param_groups
        for group, settings in zip(groups, own, strict=True):
            group.update(settings)
        self.scheduler.base_lrs = [group["initial_lr"] for group in groups]
        for group, rate in zip(groups, self.scheduler.get_lr(), strict=True):
            group["lr"] = rate

    def train(self) -> None:
        """Train to the end.

        Raises:
            LesionError: if the loss becomes NaN or infinite.
        """
        try:
            super().train()
        except FloatingPointError as error:
            rate = max(group["lr"] for group in self.optimizer.param_groups)
            file = self.checkpointer.has_checkpoint() and self.checkpointer.get_checkpoint_file()
            way = f"continue from {file} with --resume" if file else "start anew"
            raise LesionError(
                f"the loss became infinite or NaN at iteration {self.iter}, learning rate "
                f"{rate:.3g}; {way} and a lower SOLVER.BASE_LR than {self.cfg.SOLVER.BASE_LR:g}, "
                "or a longer SOLVER.WARMUP_ITERS"
            ) from error

    def build_hooks(self) -> list[HookBase]:
        """Build the hooks in the order they run: first the checkpoint, then what may fail."""
        cfg = self.cfg
        main = comm.is_main_process()
        hooks: list[HookBase] = [
            d2_hooks.IterationTimer(),
            StagedFreeze(stages_from_config(cfg)),
            SeedEachStep(cfg.SEED),
            d2_hooks.LRScheduler(),
        ]
        model = self.checkpointer.model  # the one that is never wrapped
        if cfg.SOLVER.EMA_DECAY:
            average = WeightAverage(model, cfg.SOLVER.EMA_DECAY)
            hooks.append(average)
            model = average.model
        if main:
            period, kept = cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.CHECKPOINTS_KEPT
            hooks.append(PeriodicCheckpointer(self.checkpointer, period, max_to_keep=kept))
        validation = None
        if cfg.DATASETS.VAL:
            best = self._build_checkpointer(model)
            measured = {
                "dataset": list(cfg.DATASETS.VAL),
                "flips": list(cfg.INPUT.MEMBER_FLIPS_VAL),
                "score_threshold": cfg.TEST.SCORE_THRESH,
                "truth": cfg.TEST.TRUTH_DIR,
                **prediction_settings(cfg),
            }
            validation = Validation(
                cfg.TEST.EVAL_PERIOD, lambda: self._validate(model), best, measured
            )
            hooks.append(validation)
        if main:
            hooks += [
                ProgressBar(cfg.SOLVER.ITERS_PER_EPOCH, self.checkpointer, validation),
                # It writes only the latest of each value: at least once for each validation.
                d2_hooks.PeriodicWriter(self.build_writers(), min(20, cfg.TEST.EVAL_PERIOD)),
            ]
        return hooks

    def _build_checkpointer(self, model: nn.Module) -> LesionCheckpointer:
        main, trainer = comm.is_main_process(), weakref.proxy(self)
        return LesionCheckpointer(model, self.cfg.OUTPUT_DIR, save_to_disk=main, trainer=trainer)

    def _validate(self, model: nn.Module) -> dict[str, Any]:
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TEST = cfg.DATASETS.VAL
        losses = validation_losses(model, build_validation_loss_loader(cfg))
        return {**losses, **self.test(cfg, Segmenter(cfg, model))}

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model with nothing frozen, so that any stage can thaw any part.

        Detectron2's ``FREEZE_AT`` would turn norm layers into others for good, and parameters that
        are frozen when the optimizer is built never train.
        """
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.FREEZE_AT = 0
        return build_network(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Build ``SOLVER.OPTIMIZER``; AdamW takes the learning rate and decay of the config."""
        if cfg.SOLVER.OPTIMIZER == "SGD":
            return super().build_optimizer(cfg, model)
        solver = cfg.SOLVER
        groups = get_default_optimizer_params(
            model,
            base_lr=solver.BASE_LR,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        )
        optimizer = torch.optim.AdamW(groups, solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
        return maybe_add_gradient_clipping(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader:
        """Build the training loader; see :mod:`lesion_d2.data.loader`."""
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        """Build the inference loader of a data set, behind a progress bar."""
        loader, quiet = build_test_loader(cfg, dataset_name), not comm.is_main_process()
        name = f"inference on {dataset_name}"
        # Nothing to see of one shorter than 5 seconds.
        return progress_bar(loader, name, leave=False, delay=5, disable=quiet)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> LesionEvaluator:
        """Build the evaluator of a data set; it writes no files."""
        return LesionEvaluator(cfg.TEST.SCORE_THRESH)
