"""Peak memory of a piece of work, alone in a process of its own."""

import multiprocessing
import os
import resource
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout, suppress
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
    start = _status("self").get("VmRSS", 0) / 1024
    workers: dict[str, float] = {}
    done = threading.Event()
    watch = threading.Thread(target=_watch_workers, args=(workers, done), daemon=True)
    watch.start()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        work(*args)
    done.set()
    watch.join()
    torch = sys.modules.get("torch")
    gpu = torch.cuda.max_memory_allocated() / _MIB if torch and torch.cuda.is_available() else 0.0
    # On Linux ru_maxrss starts with the memory of the parent; it is for systems without /proc.
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = _status("self").get("VmHWM", usage / (1024 if sys.platform == "darwin" else 1)) / 1024
    return Peak(start, own + sum(workers.values()), gpu)


def _watch_workers(peaks: dict[str, float], done: threading.Event) -> None:
    """Keep the latest peak of each process started by this one, until told to end."""
    while not done.wait(_POLL_SECONDS):
        for path in Path("/proc").glob("[0-9]*"):
            status = _status(path.name)
            if status.get("PPid") == os.getpid() and "VmHWM" in status:
                peaks[path.name] = status["VmHWM"] / 1024


def _status(pid: str) -> dict[str, float]:
    """Return parent, peak and present size (KiB) of a process; nothing where there is no /proc."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        pairs = (line.split(":") for line in lines if line.startswith(("PPid", "VmHWM", "VmRSS")))
        return {name: float(value.split()[0]) for name, value in pairs}
    return {}
