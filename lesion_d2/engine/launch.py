"""Starting the processes of a run."""

import argparse
import os
from collections.abc import Callable

import torch
from detectron2.engine import launch
from detectron2.engine.launch import _distributed_worker  # what `launch` runs in a process
from torch.multiprocessing import ProcessRaisedException

from lesion_d2.errors import TRACEBACK_MARK, LesionError

TORCHRUN = "TORCHELASTIC_RUN_ID"  # what torchrun sets for the processes that it starts


def launch_run(process: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run ``process(args)`` in each process that the arguments ask for.

    Under ``torchrun`` the processes are there already, and this is one of them.

    Raises:
        LesionError: if a process raised one.
    """
    if TORCHRUN in os.environ:
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
