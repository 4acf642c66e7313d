"""Runs of a very small model, and tools to compare them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import torch
from detectron2.utils.env import seed_all_rng

from lesion_d2.config.load import load_config
from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.prediction.confidence import ConfidenceModel

ROOT = Path(__file__).parents[1]
CPU = ["MODEL.DEVICE", "cpu"]
DEMO = str(ROOT / "configs" / "demo.yaml")
DATASETS = (
    ("DATASETS.TRAIN", ("tiny_train",)),
    ("DATASETS.VAL", ("tiny_val",)),
    ("DATASETS.TEST", ("tiny_test",)),
)
SMALL = (
    ("MODEL.DEVICE", "cpu"),
    ("INPUT.MIN_SIZE_TRAIN", (64,)),
    ("INPUT.MIN_SIZE_TEST", 64),
    ("SOLVER.IMS_PER_BATCH", 2),
    ("DATALOADER.NUM_WORKERS", 0),
    ("SOLVER.LR_DROPS", ()),
    ("TEST.SCORE_THRESH", 0.05),  # an untrained model finds nothing it is sure of
)
# What stands where a model's file should be, and is none.
NO_FILES = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "FIFO": os.mkfifo,
    "sparse": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}
# Heads, then res3 and up, then all but res5 frozen again; a checkpoint of every iteration.
TRAINING = (
    "SOLVER.ITERS_PER_EPOCH", 3,
    "SOLVER.STAGES", ((1, 5), (2, 2), (3, 4)),
    "SOLVER.LR_DROPS", (0.5, 0.8),
    "SOLVER.WARMUP_ITERS", 2,
    "SOLVER.CHECKPOINT_PERIOD", 1,
    "SOLVER.CHECKPOINTS_KEPT", 99,
)  # fmt: skip
PROVENANCE = {"weights_sha256": "0" * 64}
CONFIDENCE = ConfidenceModel([0.1] * 6, 0.2, {"dataset": "tiny_val"})


def tiny_options(output, *opts):
    """Return KEY VALUE overrides that turn configs/demo.yaml into a run on the tiny data set."""
    defaults = [item for pair in (*DATASETS, *SMALL) for item in pair]
    return [*defaults, "OUTPUT_DIR", str(output), *opts]


def load_tiny_config(output, *opts):
    return load_config(DEMO, tiny_options(output, *opts))


class Run:
    """A training that has ended: its folder, its trainer, and the model it started from."""

    def __init__(self, cfg, start, trainer):
        self.folder = Path(cfg.OUTPUT_DIR)
        self.start = start
        self.trainer = trainer

    def checkpoint(self, iteration):
        """Return the content of the checkpoint written at the end of ``iteration``."""
        return load(self.folder / f"model_{iteration:07d}.pth")

    def final(self):
        return load(self.folder / "model_final.pth")


def train_run(cfg, *, resume=False, hooks=()):
    """Train as tools/train_net.py does, in this process."""
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    seed_all_rng(cfg.SEED)
    trainer = LesionTrainer(cfg)
    start = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.register_hooks(list(hooks))
    trainer.resume_or_load(resume)
    trainer.train()
    return Run(cfg, start, trainer)


def load(path):
    return torch.load(path, weights_only=True)


def differences(left, right, path=""):
    """Return where two nested structures of tensors and plain values differ by a bit."""
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return [f"{path}: keys {sorted(map(str, left.keys() ^ right.keys()))}"]
        pairs = [(f"{path}/{key}", left[key], right[key]) for key in left]
    elif isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        if len(left) != len(right):
            return [f"{path}: {len(left)} and {len(right)} items"]
        pairs = [(f"{path}/{i}", *items) for i, items in enumerate(zip(left, right, strict=True))]
    elif isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return [] if torch.equal(left, right) else [path]
    else:
        return [] if type(left) is type(right) and left == right else [path]
    return [entry for name, a, b in pairs for entry in differences(a, b, name)]


def load_tool(name):
    """Return tools/<name>.py as a module."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python(*arguments, cwd=ROOT, **environment):
    """Start a Python process that finds the package; returns the Popen object."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_python(*arguments, **settings):
    """Run a Python process to its end; returns (exit status, stdout, stderr)."""
    process = python(*arguments, **settings)
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr
