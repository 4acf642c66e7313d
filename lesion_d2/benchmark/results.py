"""The results of a benchmark, as a table and as JSON, and what it ran on."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from tabulate import tabulate

from lesion_d2.benchmark.timing import ratio, spread
from lesion_d2.commands.evaluate import library_versions
from lesion_d2.cpus import available_cpus
from lesion_d2.files import write_json


@dataclass(frozen=True)
class Section:
    """Contenders that did the same work in the same rounds."""

    title: str  # what they did
    unit: str  # what they worked on, in the singular, such as ``image``
    count: int  # units in one round
    seconds: Mapping[str, Sequence[float]]  # of each round, by name
    rivals: Sequence[str]  # names of those whose speed the others' are compared with
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by title, then name

    def figures(self, name: str) -> dict[str, Any]:
        """Return the figures of a contender."""
        seconds = self.seconds[name]
        return {
            "seconds": seconds,
            f"seconds_per_{self.unit}": spread([value / self.count for value in seconds]),
            "speed_against": {rival: ratio(self.seconds[rival], seconds) for rival in self.rivals},
        } | {column: values[name] for column, values in self.columns.items() if name in values}

    def to_dict(self) -> dict[str, Any]:
        """Return all figures by contender."""
        about = {key: getattr(self, key) for key in ("title", "unit", "count", "rivals")}
        return about | {"contenders": {name: self.figures(name) for name in self.seconds}}

    def __str__(self) -> str:
        """A row a contender; columns are narrow, a word or two a line."""
        heads = [
            f"s/{self.unit}",
            *(f"speed\nagainst {rival}".replace(", ", ",\n") for rival in self.rivals),
            *self.columns,
        ]
        rows = []
        for name in self.seconds:
            figures = self.figures(name)
            cells = [figures[f"seconds_per_{self.unit}"], *figures["speed_against"].values()]
            cells += [figures.get(column, "") for column in self.columns]
            rows.append([name, *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in cells)])
        return f"{self.title}\n{tabulate(rows, ['', *heads], disable_numparse=True)}"


def results_text(machine: dict[str, Any], sections: Sequence[Section]) -> str:
    """Return what was measured on, and a table for each section."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return "\n\n".join(
        [
            f"{machine['processor']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB, "
            f"{machine['gpu']}, {machine['threads']} threads, load {machine['load']} at the start, "
            f"on {machine['device']}\n{versions}",
            *map(str, sections),
            "median (quartiles) over the rounds; speeds are compared within a round",
        ]
    )


def write_results(path: Path, sections: Sequence[Section], **about: Any) -> None:
    """Write sections as JSON, with what they were measured on and with which options."""
    content = {"format": 2, **about, "sections": [section.to_dict() for section in sections]}
    write_json(path, content, default=lambda item: vars(item) if is_dataclass(item) else str(item))


def use_threads(threads: int) -> None:
    """Let OpenCV and torch use so many threads, here and in processes started from here."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    cv2.setNumThreads(threads)
    torch.set_num_threads(threads)


def describe_machine(threads: int) -> dict[str, Any]:
    """Return processor, GPU, memory, present load, threads and versions."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.is_file() else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": model[1] if model else platform.processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
        "cpus": available_cpus(),
        "memory_gib": round(pages * page / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "threads": threads,
        "versions": {"Python": platform.python_version(), **library_versions()},
    }
