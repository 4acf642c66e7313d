"""The results of a benchmark, as a table and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from lesion_d2.benchmark.machine import machine_lines
from lesion_d2.benchmark.memory import Peak
from lesion_d2.benchmark.timing import Spread, ratio, spread
from lesion_d2.files import atomic_write


@dataclass(frozen=True)
class Section:
    """Contenders that did the same work in the same rounds.

    Attributes:
        title: what they did.
        unit: what they worked on, in the singular, such as ``image``.
        count: units in one round, of all contenders, or by name where they differ.
        seconds: of each round, by name.
        rivals: names of those whose speed the others' are compared with, memory with the first's.
        peaks: memory by name, where it was measured.
        columns: further figures: by column, then by name.
    """

    title: str
    unit: str
    count: int | Mapping[str, int]
    seconds: Mapping[str, Sequence[float]]
    rivals: Sequence[str]
    peaks: Mapping[str, Peak] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, float | Spread]] = field(default_factory=dict)

    def figures(self, name: str) -> dict[str, Any]:
        """Return the figures of a contender, a :class:`Spread` where rounds differ."""
        times = {
            other: [
                value / (self.count if isinstance(self.count, int) else self.count[other])
                for value in seconds
            ]
            for other, seconds in self.seconds.items()
        }
        figures: dict[str, Any] = {
            "seconds": list(self.seconds[name]),
            f"seconds_per_{self.unit}": spread(times[name]),
            f"{self.unit}s_per_second": spread([1 / time for time in times[name]]),
            "speed_against": {rival: ratio(times[rival], times[name]) for rival in self.rivals},
        }
        if peak := self.peaks.get(name):
            rival = self.rivals[0]
            figures["memory_mib"] = peak
            figures["memory_against"] = {rival: peak.peak / self.peaks[rival].peak}
        return figures | {
            column: values[name] for column, values in self.columns.items() if name in values
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values."""
        return {
            "title": self.title,
            "unit": self.unit,
            "count": self.count if isinstance(self.count, int) else dict(self.count),
            "rivals": list(self.rivals),
            "contenders": {name: _plain(self.figures(name)) for name in self.seconds},
        }

    def __str__(self) -> str:
        """A row a contender; columns are narrow, a word or two a line."""
        rows = []
        for name in self.seconds:
            figures = self.figures(name)
            row = {
                "": name,
                f"s/{self.unit}": figures[f"seconds_per_{self.unit}"],
                f"{self.unit}s/s": f"{figures[f'{self.unit}s_per_second'].median:.3g}",
            }
            for rival, speed in figures["speed_against"].items():
                row[f"speed\nagainst {rival}".replace(", ", ",\n")] = speed
            if name in self.peaks:
                peak, (rival,) = self.peaks[name], figures["memory_against"]
                row |= {"MiB at start": f"{peak.start:.0f}", "MiB at peak": f"{peak.peak:.0f}"}
                row[f"memory\nagainst {rival}"] = f"{figures['memory_against'][rival]:.2f}"
                row |= {"MiB on the GPU": f"{peak.gpu:.0f}"} if peak.gpu else {}
            row |= {column: figures[column] for column in self.columns if column in figures}
            rows.append({key: _cell(value) for key, value in row.items()})
        heads = dict.fromkeys(key for row in rows for key in row)
        cells = [[row.get(head, "") for head in heads] for row in rows]
        return f"{self.title}\n{tabulate(cells, list(heads), disable_numparse=True)}"


def _plain(value: Any) -> Any:
    """Return a value with named tuples as dicts, as JSON is to have them."""
    if hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Results:
    """A benchmark's results, what they were measured on, and with which options."""

    benchmark: str
    machine: dict[str, Any]
    options: dict[str, Any]
    sections: Sequence[Section]

    def __str__(self) -> str:
        legend = "median (quartiles) over the rounds; speeds are compared within a round"
        return "\n\n".join([machine_lines(self.machine), *map(str, self.sections), legend])

    def write(self, path: Path) -> Path:
        """Write as JSON, and return the path."""
        content = {"format": 1} | vars(self)
        content["sections"] = [section.to_dict() for section in self.sections]
        with atomic_write(path) as stream:
            json.dump(content, stream, indent=1, default=str)  # paths
            stream.write("\n")
        return path
