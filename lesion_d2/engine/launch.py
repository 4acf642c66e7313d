"""Starting the processes of a run."""

import argparse
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable
from datetime import timedelta

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from lesion_d2.errors import TRACEBACK_MARK, LesionError

TORCHRUN = "TORCHELASTIC_RUN_ID"  # what torchrun sets for the processes that it starts
# For processes to meet, and for one to wait for what another computes.
TIMEOUT = timedelta(minutes=10)

logger = logging.getLogger(__name__)


def count_processes(args: argparse.Namespace) -> int:
    """Return how many processes take part in a run; ``--num-gpus 0`` becomes one on the CPU.

    Raises:
        LesionError: if the processes cannot be started as the arguments say.
    """
    if TORCHRUN in os.environ:
        _check_gpus("--nproc-per-node", int(os.environ["LOCAL_WORLD_SIZE"]))
        return int(os.environ["WORLD_SIZE"])
    if args.num_gpus == 0:
        args.num_gpus = 1
        args.opts = [*args.opts, "MODEL.DEVICE", "cpu"]
    elif args.num_gpus < 0:
        raise LesionError(f"--num-gpus: {args.num_gpus} is negative; 0 is one process on the CPU")
    _check_gpus("--num-gpus", args.num_gpus)
    if args.num_machines < 1:
        raise LesionError(f"--num-machines: {args.num_machines}; give 1 or more")
    if not 0 <= args.machine_rank < args.num_machines:
        raise LesionError(
            f"--machine-rank: {args.machine_rank}; give 0 to {args.num_machines - 1}, each to one "
            f"of the {args.num_machines} machines of --num-machines"
        )
    if args.num_machines > 1 and not args.dist_url.startswith("tcp://"):
        raise LesionError("--dist-url: give the first machine's address, as tcp://ADDRESS:PORT")
    return args.num_gpus * args.num_machines


def _check_gpus(option: str, processes: int) -> None:
    if torch.cuda.is_available() and processes > (gpus := torch.cuda.device_count()):
        raise LesionError(f"{option}: {processes}, but this machine has {gpus} GPU(s); give fewer")


def check_device(device: str, processes: int) -> None:
    """Check that so many processes can compute on a device.

    They exchange gradients over NCCL, each on a GPU of its own, or, without GPUs, on the CPU.

    Raises:
        LesionError: if they cannot.
    """
    own = "cuda" if torch.cuda.is_available() else "cpu"
    if processes > 1 and device != own:
        raise LesionError(
            f"MODEL.DEVICE: {device!r} cannot be used by {processes} processes here; give {own!r}, "
            "or start one process (CUDA_VISIBLE_DEVICES= hides the GPUs)"
        )


def launch_run(process: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run ``process(args)`` in each process that the arguments ask for.

    Under ``torchrun`` the processes are there already, and this is one of them.

    Raises:
        LesionError: if a process raised one, was killed, or did not meet the others.
    """
    if TORCHRUN in os.environ:
        on_gpus = torch.cuda.is_available()
        distributed.init_process_group("nccl" if on_gpus else "gloo", timeout=TIMEOUT)
        comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
        if on_gpus:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        comm.synchronize()
        _take_part(process, args)
    if args.num_machines > 1:
        logger.warning("waiting for %d machines at %s", args.num_machines, args.dist_url)
    try:
        machines = args.num_machines, args.machine_rank, args.dist_url
        launch(_take_part, args.num_gpus, *machines, args=(process, args), timeout=TIMEOUT)
    except ProcessRaisedException as error:
        # All that crosses the process border is the text of the traceback.
        text = str(error)
        if TRACEBACK_MARK in text:
            raise LesionError(text) from error
        if "init_process_group" in text:
            reason = text.strip().splitlines()[-1]
            raise LesionError(
                f"--dist-url: {args.dist_url}: the processes did not meet within {TIMEOUT} "
                f"({reason}); start all {args.num_machines} machines, with one address"
            ) from error
        raise
    except ProcessExitedException as error:
        raise LesionError(
            f"{error}, most likely for memory; lower SOLVER.IMS_PER_BATCH or the image size, and "
            "continue with --resume"
        ) from error


def _take_part(process: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run ``process(args)``; one of several processes ends with it.

    It does not end by way of the interpreter, where gloo's threads can abort a process that has
    done all its work (https://github.com/pytorch/pytorch/pull/179291).
    """
    process(args)
    if not distributed.is_initialized():
        return
    distributed.destroy_process_group()
    for worker in multiprocessing.active_children():
        worker.terminate()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
