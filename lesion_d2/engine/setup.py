"""Checking a run before it starts, and setting up each of its processes."""

import argparse
import os
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from lesion_d2.config.load import load_config
from lesion_d2.data.loader import load_members
from lesion_d2.engine.launch import TORCHRUN
from lesion_d2.errors import LesionError, quiet_libraries
from lesion_d2.modeling.weights import check_trained_file, fetch_weights


def check_run(args: argparse.Namespace, *, training: bool) -> None:
    """Check a run's arguments, data and weights before any process starts.

    Args:
        args: the command line, see :func:`lesion_d2.command_line.add_run_arguments`.
        training: whether the run trains (else it evaluates).

    Raises:
        LesionError: for whatever would fail later.
    """
    if args.num_machines > 1 and args.dist_url == "auto":
        raise LesionError("--dist-url: give the first machine's address, as tcp://ADDRESS:PORT")
    cfg = load_config(args.config_file, args.opts)
    world_size = args.num_gpus * args.num_machines
    if TORCHRUN in os.environ:
        world_size = int(os.environ["WORLD_SIZE"])
    if cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise LesionError(
            f"SOLVER.IMS_PER_BATCH: {cfg.SOLVER.IMS_PER_BATCH} is not a multiple of the "
            f"{world_size} processes"
        )
    if not training:
        load_members(cfg.DATASETS.TEST, ("none",))
        check_trained_file(cfg.MODEL.WEIGHTS)
        return
    load_members(cfg.DATASETS.TRAIN, ("none",))
    if cfg.DATASETS.VAL:
        load_members(cfg.DATASETS.VAL, ("none",))
    if (Path(cfg.OUTPUT_DIR) / "last_checkpoint").is_file():
        if not args.resume:
            raise LesionError(
                f"OUTPUT_DIR: {cfg.OUTPUT_DIR} holds a run already; pass --resume to continue it, "
                "or choose another OUTPUT_DIR"
            )
    else:
        fetch_weights(cfg.MODEL.WEIGHTS)


def setup(args: argparse.Namespace, subfolder: str = "") -> CfgNode:
    """Build the frozen config of a run, and set up its folder, log and seeds.

    Args:
        args: with ``config_file``, ``opts``, and what Detectron2's ``default_setup`` reads.
        subfolder: of ``OUTPUT_DIR``, to work in instead.
    """
    cfg = load_config(args.config_file, args.opts)
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR, subfolder))
    cfg.freeze()
    quiet_libraries()  # in this process, too
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="lesion_d2")
    default_setup(cfg, args)
    return cfg
