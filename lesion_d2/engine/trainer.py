"""The trainer of the experiment."""

import weakref
from collections.abc import Mapping
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
from lesion_d2.engine.checkpoint import BestCheckpoint, LesionCheckpointer
from lesion_d2.engine.hooks import ProgressBar, SeedEachStep, ValidationLosses
from lesion_d2.engine.staged_freeze import StagedFreeze
from lesion_d2.evaluation.lesion_evaluator import LesionEvaluator
from lesion_d2.modeling.build import build_network
from lesion_d2.modeling.precision import settle_bfloat16
from lesion_d2.parallel import progress_bar
from lesion_d2.prediction.segmenter import Segmenter


class BFloat16Trainer(SimpleTrainer):
    """Computes convolutions and matrix products in bfloat16; weights stay in 32 bits.

    Detectron2's own loop for mixed precision runs on CUDA devices only. bfloat16 has the range of
    float32, so that losses need no scaling.
    """

    def run_step(self) -> None:
        """Run one step of training."""
        with autocast("cpu", bfloat16):
            super().run_step()


class LesionTrainer(DefaultTrainer):
    """Trains in stages, validates each epoch, resumes exactly.

    The config must have been through :func:`lesion_d2.config.schedule.derive_schedule`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer.__init__ wraps the model in DistributedDataParallel for good and fails to
        # on CPUs; here the staged-freeze hook wraps it, and the checkpointer is the project's.
        TrainerBase.__init__(self)
        model = self.build_model(cfg)
        loop: type[SimpleTrainer] = SimpleTrainer
        if cfg.SOLVER.AMP.ENABLED:
            loop = AMPTrainer if model.device.type == "cuda" else BFloat16Trainer
        if loop is BFloat16Trainer:
            settle_bfloat16("SOLVER.AMP.ENABLED False")
        optimizer = self.build_optimizer(cfg, model)
        self._trainer = loop(model, self.build_train_loader(cfg), optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = LesionCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            save_to_disk=comm.is_main_process(),
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint, or load ``cfg.MODEL.WEIGHTS`` and start anew."""
        super().resume_or_load(resume)
        self.data_loader.dataset.sampler.first_iteration = self.start_iter

    def build_hooks(self) -> list[HookBase]:
        """Build the hooks in the order they run.

        Evaluation comes before the best checkpoint, and that before the periodic one, so that a
        checkpoint of an iteration knows all that happened in it.
        """
        cfg = self.cfg
        period = cfg.TEST.EVAL_PERIOD
        hooks: list[HookBase] = [
            d2_hooks.IterationTimer(),
            StagedFreeze(stages_from_config(cfg)),
            SeedEachStep(cfg.SEED),
            d2_hooks.LRScheduler(),
        ]
        if cfg.DATASETS.VAL:
            hooks += [
                ValidationLosses(period, lambda: build_validation_loss_loader(cfg)),
                d2_hooks.EvalHook(period, self._validate),
            ]
        if comm.is_main_process():
            if cfg.DATASETS.VAL:
                hooks.append(BestCheckpoint(period, self.checkpointer, "lesion/mean_max_iou"))
            hooks += [
                d2_hooks.PeriodicCheckpointer(
                    self.checkpointer,
                    cfg.SOLVER.CHECKPOINT_PERIOD,
                    max_to_keep=cfg.SOLVER.CHECKPOINTS_KEPT,
                ),
                ProgressBar(),
                # It writes only the latest of each value: at least once for each validation.
                d2_hooks.PeriodicWriter(self.build_writers(), period=min(20, period)),
            ]
        return hooks

    def _validate(self) -> Mapping[str, Any]:
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TEST = cfg.DATASETS.VAL
        model = self.model.module if comm.get_world_size() > 1 else self.model
        return self.test(cfg, Segmenter(cfg, model))

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model; the stage's table in the log describes it well enough."""
        return build_network(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Build ``SOLVER.OPTIMIZER``; AdamW takes the learning rate and decay of the config."""
        if cfg.SOLVER.OPTIMIZER == "SGD":
            return super().build_optimizer(cfg, model)
        optimizer = torch.optim.AdamW(
            get_default_optimizer_params(model, weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM),
            lr=cfg.SOLVER.BASE_LR,
            weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        )
        return maybe_add_gradient_clipping(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader:
        """Build the training loader; see :mod:`lesion_d2.data.loader`."""
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        """Build the inference loader of a data set, behind a progress bar."""
        loader = build_test_loader(cfg, dataset_name)
        return progress_bar(
            loader, f"inference on {dataset_name}", disable=not comm.is_main_process()
        )

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> LesionEvaluator:
        """Build the evaluator of a data set; it writes no files."""
        return LesionEvaluator(cfg.TEST.SCORE_THRESH)
