"""From command-line arguments to a frozen config, failing early and in one line."""

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup, launch
from detectron2.engine.launch import _distributed_worker  # what `launch` runs in a process
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessRaisedException

from lesion_d2.config.keys import derive_schedule, get_lesion_cfg
from lesion_d2.data.loader import load_members
from lesion_d2.engine.checkpoint import check_trained_file
from lesion_d2.errors import TRACEBACK_MARK, LesionError, quiet_libraries

logger = logging.getLogger(__name__)

_TORCHRUN = "TORCHELASTIC_RUN_ID"  # what torchrun sets for the processes that it starts
_KEYS = "keys are listed in lesion_d2/config/keys.py and in Detectron2's config reference"


def load_config(config_file: str, opts: list[str]) -> CfgNode:
    """Read a config file and apply ``KEY VALUE`` overrides.

    Args:
        config_file: a YAML file.
        opts: alternating keys and values.

    Raises:
        LesionError: if the file is missing or a key or value does not fit.
    """
    if not Path(config_file).is_file():
        raise LesionError(
            f"--config-file: {config_file or '(not given)'}: no such file; the project's are in "
            "configs/"
        )
    cfg = get_lesion_cfg()
    try:
        cfg.merge_from_file(config_file, allow_unsafe=False)  # else YAML tags could run code
    except Exception as error:  # YAML and yacs raise a dozen types, with no base in common
        raise LesionError(f"{config_file}: {error}; {_KEYS}") from error
    merge_options(cfg, opts)
    settle_device(cfg)
    derive_schedule(cfg)
    return cfg


def merge_options(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Apply alternating keys and values to a config.

    Raises:
        LesionError: if a key is unknown or a value does not fit it.
    """
    try:
        cfg.merge_from_list(list(opts))
    except Exception as error:  # as above
        raise LesionError(f"overrides {list(opts)}: {error}; {_KEYS}") from error


def settle_device(cfg: CfgNode) -> None:
    """Make ``MODEL.DEVICE`` the CPU where the GPU that it asks for is missing."""
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE is cuda but there is none here: using the CPU")
        cfg.MODEL.DEVICE = "cpu"


def fetch_weights(weights: str) -> None:
    """Make sure that ``MODEL.WEIGHTS`` can be had, downloading it when it is an address.

    Raises:
        LesionError: if it cannot, saying what to do instead.
    """
    if not weights:
        return
    try:
        found = Path(PathManager.get_local_path(weights)).is_file()
        reason = "no such file"
    except Exception as error:  # a download fails in as many ways as there are networks
        found, reason = False, str(error).strip().partition("\n")[0] or type(error).__name__
    if not found:
        raise LesionError(
            f"MODEL.WEIGHTS: {weights}: {reason}; without a network, download the file on another "
            "machine and pass MODEL.WEIGHTS path/to/file, or MODEL.WEIGHTS '' to start from random "
            "weights"
        )


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
    if _TORCHRUN in os.environ:
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


def launch_run(process: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run ``process(args)`` in each process that the arguments ask for.

    Under ``torchrun`` the processes are there already, and this is one of them.

    Raises:
        LesionError: if a process raised one.
    """
    if _TORCHRUN in os.environ:
        local_rank, world_size, local_size, machine = (
            int(os.environ[name])
            for name in ("LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")
        )
        _distributed_worker(local_rank, process, world_size, local_size, machine, "env://", (args,))
        torch.distributed.destroy_process_group()
        return
    try:
        launch(
            process,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessRaisedException as error:
        # All that crosses the process border is the text of the traceback.
        if TRACEBACK_MARK in str(error):
            raise LesionError(str(error)) from error
        raise


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
