"""Training an experiment."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from detectron2.utils import comm

from lesion_d2.commands.evaluate import evaluate_and_draw
from lesion_d2.config.load import load_config
from lesion_d2.engine.launch import launch_run
from lesion_d2.engine.setup import check_run, setup
from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.files import alone


def train_or_evaluate(args: argparse.Namespace) -> None:
    """Check what can be checked, then train, or evaluate, in all processes."""
    check_run(args, training=not args.eval_only)
    launch_run(evaluate_and_draw if args.eval_only else train, args)


def train(args: argparse.Namespace) -> None:
    """Run one process of a training; no other training may write to its folder meanwhile."""
    folder = Path(load_config(args.config_file, args.opts).OUTPUT_DIR)
    with alone(folder) if comm.is_main_process() else nullcontext():
        trainer = LesionTrainer(setup(args))
        trainer.resume_or_load(resume=args.resume)
        trainer.train()
