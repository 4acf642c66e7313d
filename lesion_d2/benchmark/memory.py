"""Peak memory of a piece of work, alone in a process of its own."""

import multiprocessing
import os
import resource
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lesion_d2.errors import LesionError, quiet_libraries

_POLL_SECONDS = 0.02
_MIB = 2**20


class Peak(NamedTuple):
    """Memory in MiB.

    ``start`` is what the process held before the work: the interpreter and what was imported.
    ``peak`` is the most it ever held, plus the most that each worker process of it ever held.
    ``gpu`` is the most that torch ever held on the GPU.
    """

    start: float
    peak: float
    gpu: float


def peak_memory(work: Callable[..., object], *args: object) -> Peak:
    """Run ``work(*args)`` in a new process and return its memory.

    Args:
        work: a function of a module; only that module is imported, and what it imports.
        args: picklable.

    Raises:
        LesionError: if the process was killed.
    """
    # spawn: a fork would start with the memory of this process.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        try:
            return executor.submit(_measure, work, args).result()
        except BrokenProcessPool as error:
            raise LesionError(
                "a process that measures memory was killed, most likely for memory; use smaller "
                "sizes, or --no-memory"
            ) from error


def _measure(work: Callable[..., object], args: tuple[object, ...]) -> Peak:
    quiet_libraries()
    start = _own("VmRSS")
    workers: dict[int, float] = {}
    done = threading.Event()
    watch = threading.Thread(target=_watch_workers, args=(workers, done), daemon=True)
    watch.start()
    with open(os.devnull, "w") as nowhere:
        saved, sys.stdout, sys.stderr = (sys.stdout, sys.stderr), nowhere, nowhere
        try:
            work(*args)
        finally:
            sys.stdout, sys.stderr = saved
    done.set()
    watch.join()
    torch = sys.modules.get("torch")
    gpu = torch.cuda.max_memory_allocated() / _MIB if torch and torch.cuda.is_available() else 0.0
    return Peak(start, _own("VmHWM") + sum(workers.values()), gpu)


def _watch_workers(peaks: dict[int, float], done: threading.Event) -> None:
    """Keep the latest peak of each process started by this one, until told to end."""
    while not done.wait(_POLL_SECONDS):
        for pid in _workers():
            if peak := _status(pid, "VmHWM"):
                peaks[pid] = peak


def _workers() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            # The name, in brackets, can hold anything; state and parent come after it.
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found


def _own(field: str) -> float:
    # Not ru_maxrss where it can be helped: on Linux it starts with the memory of the parent.
    if value := _status(os.getpid(), field):
        return value
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (_MIB if sys.platform == "darwin" else 1024)


def _status(pid: int, field: str) -> float | None:
    """Return a field of /proc/PID/status in MiB; None where there is no such thing."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    return None
