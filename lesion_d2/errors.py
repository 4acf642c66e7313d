"""The one exception type for what a user can get wrong, and how tools show it."""

import errno
import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from lesion_d2.cpus import share_cpus


class LesionError(Exception):
    """Something the user can mend.

    The message names the file or key, says what is wrong with it and what to do.
    """


# What comes before the message of one in the text of a traceback.
TRACEBACK_MARK = f"{LesionError.__module__}.{LesionError.__qualname__}: "

# What a full or write-protected disk answers: no other file could be written, either.
UNWRITABLE = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS}
_BAD_FOLDER = {errno.EBUSY, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EXDEV}


_TRAINING = (
    "run `make install`, or choose one of the two ways in docs/install.md; to outline with an "
    ".onnx file, `pip install '.[onnx]'` in the project's folder is enough"
)
# Packages that not every installation has, and how to get them.
_WAYS = {
    "detectron2": f"this needs Detectron2, which pip cannot find under that name: {_TRAINING}",
    **{
        name: f"this needs {name}, which is not installed: {_TRAINING}"
        for name in (
            *("torch", "torchvision", "safetensors", "fvcore", "scipy", "matplotlib"),
            *("contourpy", "httpx2", "jinja2", "tabulate"),
        )
    },
    "onnxruntime": "an .onnx file needs ONNX Runtime: pip install onnxruntime",
    "onnx": "exporting to .onnx needs more packages: pip install onnx onnxscript",
    "onnxscript": "exporting to .onnx needs more packages: pip install onnx onnxscript",
}


@contextmanager
def naming_missing_packages() -> Iterator[None]:
    """Turn the failed import of a package that not every installation has into a LesionError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (name := str(error.name).partition(".")[0]) in _WAYS:
            raise LesionError(_WAYS[name]) from error
        raise


_GPU_MEMORY = (
    "the GPU has too little free memory; lower SOLVER.IMS_PER_BATCH or INPUT.MAX_SIZE_TRAIN and "
    "continue with --resume, or, for a prediction, lower INPUT.MAX_SIZE_TEST"
)
_SHARED_MEMORY = (
    "the shared memory is full; give the container more (docker run --shm-size 2g), or lower "
    "DATALOADER.NUM_WORKERS"
)
# What torch says of a lack of memory, and what to do: the first that fits.
_MEMORY = {
    "CUDA out of memory": _GPU_MEMORY,
    "CUDA error: out of memory": _GPU_MEMORY,
    "out of shared memory": _SHARED_MEMORY,
    "unable to allocate shared memory": _SHARED_MEMORY,
    "DataLoader worker (pid": (
        "a process that reads images was killed, most likely for memory; lower "
        "DATALOADER.NUM_WORKERS"
    ),
}


@contextmanager
def naming_lack_of_memory() -> Iterator[None]:
    """Turn what torch raises for lack of memory, a loader's killed process too, into a LesionError.

    It is also found in the text of another process's traceback.
    """
    try:
        yield
    except LesionError:
        raise
    except Exception as error:
        for said, remedy in _MEMORY.items():
            if said in str(error):
                raise LesionError(remedy) from error
        raise


def quiet_libraries() -> None:
    """Silence what Detectron2 and torch say of their own code: a user can do nothing about it.

    What torch says of a driver or a GPU that it cannot use is shown.
    """
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", module=r"detectron2\.|torchvision\.|torch\.(?!cuda$)")
    for name in ("torch.fx._symbolic_trace", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a command-line tool and exit with its status.

    A :class:`LesionError`, and a folder that cannot be written to, become one line on standard
    error and exit status 1; an interrupt becomes exit status 130, SIGTERM 143, a reader that left
    (``| head``) 141. Anything else is a defect of ours and keeps its traceback. Processes that the
    tool started end with it.
    """
    quiet_libraries()
    share_cpus()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with naming_missing_packages(), naming_lack_of_memory():
            status = main() or 0
        sys.stdout.flush()
    except LesionError as error:
        # From another process it comes with that one's traceback.
        message = " ".join(str(error).rpartition(TRACEBACK_MARK)[2].split())
        print(f"error: {message}", file=sys.stderr)
        status = 1
    except BrokenPipeError:
        # Python flushes once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:
        if error.errno not in UNWRITABLE | _BAD_FOLDER:
            raise
        remedy = "make room or choose another folder"
        print(f"error: {error.filename}: {error.strerror}; {remedy}", file=sys.stderr)
        status = 1
    except _Terminated:
        print("terminated", file=sys.stderr)
        status = 143
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in multiprocessing.active_children():
            process.terminate()
    sys.exit(status)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, answered as an interrupt is: what is being done is finished or undone."""


def _terminate(*_: Any) -> NoReturn:
    raise _Terminated
