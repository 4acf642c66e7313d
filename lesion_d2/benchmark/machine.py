"""What a benchmark ran on."""

import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch

from lesion_d2.parallel import available_cpus

_PACKAGES = (
    "torch", "torchvision", "detectron2", "sal-detectron2", "fvcore", "numpy",
    "opencv-python-headless", "pillow", "pycocotools",
)  # fmt: skip


def use_threads(threads: int) -> None:
    """Let OpenCV and torch use so many threads, here and in processes started from here."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)


def describe_machine(threads: int) -> dict[str, Any]:
    """Return processor, GPU, memory, present load, threads and versions."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    installed = {found.name.lower(): found.version for found in importlib.metadata.distributions()}
    versions = {name: installed[name] for name in _PACKAGES if name in installed}
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
        "cpus": available_cpus(),
        "memory_gib": round(pages * page / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "threads": threads,
        "versions": {"Python": platform.python_version(), **versions},
    }


def to_the_end(run: Callable[[], object], device: str) -> Callable[[], object]:
    """Return ``run`` so that it ends when the GPU has done its part, too."""
    if device != "cuda":
        return run

    def wait() -> None:
        run()
        torch.cuda.synchronize()

    return wait


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
