"""What a benchmark ran on."""

import os
import platform
from pathlib import Path
from typing import Any

import cv2
import torch

from lesion_d2.commands.evaluate import library_versions
from lesion_d2.parallel import available_cpus


def use_threads(threads: int) -> None:
    """Let OpenCV and torch use so many threads, here and in processes started from here."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)


def describe_machine(threads: int) -> dict[str, Any]:
    """Return processor, GPU, memory, present load, threads and versions."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
        "cpus": available_cpus(),
        "memory_gib": round(pages * page / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "threads": threads,
        "versions": {"Python": platform.python_version(), **library_versions()},
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
