"""Work in processes, with a progress bar."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from lesion_d2.errors import LesionError

Item = TypeVar("Item")
Result = TypeVar("Result")


def progress_bar(*args: Any, **kwargs: Any) -> tqdm:
    """Return a tqdm bar that draws often on a terminal and a line now and then in a log."""
    return tqdm(*args, mininterval=0.2 if sys.stderr.isatty() else 30, **kwargs)


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, desc: str, unit: str
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, behind a progress bar.

    One worker is this process; for more, ``function`` must be picklable.

    Raises:
        LesionError: if a process was killed.
    """
    if not items:
        return
    workers = min(workers, len(items))
    if workers <= 1:
        yield from progress_bar(map(function, items), desc, len(items), unit=unit)
        return
    # spawn, not fork: OpenCV's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as executor:
        try:
            results = executor.map(function, items, chunksize=4)
            yield from progress_bar(results, desc, len(items), unit=unit)
        except BrokenProcessPool as error:
            message = "a worker process was killed, most likely for memory; use fewer --workers"
            raise LesionError(message) from error
        finally:
            executor.shutdown(cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    # The parent answers an interrupt for all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """End this process when its parent does: one that was killed tells its workers nothing."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
