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

FORMAT = 1


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

    def unit_seconds(self, name: str) -> list[float]:
        """Return a contender's seconds a unit, of each round."""
        count = self.count if isinstance(self.count, int) else self.count[name]
        return [seconds / count for seconds in self.seconds[name]]

    def speed_against(self, name: str, rival: str) -> Spread:
        """Return how many times as fast as the rival a contender is."""
        return ratio(self.unit_seconds(rival), self.unit_seconds(name))

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values."""
        contenders = {}
        for name, seconds in self.seconds.items():
            times = self.unit_seconds(name)
            figures: dict[str, Any] = {
                "seconds": list(seconds),
                f"seconds_per_{self.unit}": spread(times)._asdict(),
                f"{self.unit}s_per_second": spread([1 / time for time in times])._asdict(),
                "speed_against": {
                    rival: self.speed_against(name, rival)._asdict() for rival in self.rivals
                },
            }
            if peak := self.peaks.get(name):
                figures["memory_mib"] = peak._asdict()
                rival = self.rivals[0]
                figures["memory_against"] = {rival: peak.peak / self.peaks[rival].peak}
            for column, values in self.columns.items():
                if name in values:
                    value = values[name]
                    figures[column] = value._asdict() if isinstance(value, Spread) else value
            contenders[name] = figures
        return {
            "title": self.title,
            "unit": self.unit,
            "count": self.count if isinstance(self.count, int) else dict(self.count),
            "rivals": list(self.rivals),
            "contenders": contenders,
        }

    def __str__(self) -> str:
        headers = ["", f"s/{self.unit}", f"{self.unit}s/s"]
        headers += [f"speed against {rival}" for rival in self.rivals]
        if self.peaks:
            headers += ["MiB at start", "MiB at peak", f"memory against {self.rivals[0]}"]
        gpu = any(peak.gpu for peak in self.peaks.values())
        headers += ["MiB on the GPU"] * gpu
        headers += self.columns
        rows = []
        for name in self.seconds:
            times = spread(self.unit_seconds(name))
            row = [name, str(times), f"{1 / times.median:.3g}"]
            row += [str(self.speed_against(name, rival)) for rival in self.rivals]
            if self.peaks:
                row += self._memory_cells(name)
            row += [f"{self.peaks[name].gpu:.0f}" if name in self.peaks else ""] * gpu
            rows.append(row + [_cell(values.get(name)) for values in self.columns.values()])
        # Narrow columns: a word or two a line.
        lines = [
            header.replace(" against ", "\nagainst ").replace(", ", ",\n") for header in headers
        ]
        return f"{self.title}\n{tabulate(rows, lines, disable_numparse=True)}"

    def _memory_cells(self, name: str) -> list[str]:
        if name not in self.peaks:
            return ["", "", ""]
        peak = self.peaks[name]
        share = peak.peak / self.peaks[self.rivals[0]].peak
        return [f"{peak.start:.0f}", f"{peak.peak:.0f}", f"{share:.2f}"]


def _cell(value: float | Spread | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, Spread) else f"{value:.4g}"


@dataclass(frozen=True)
class Report:
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
        content = {
            "format": FORMAT,
            "benchmark": self.benchmark,
            "machine": self.machine,
            "options": self.options,
            "sections": [section.to_dict() for section in self.sections],
        }
        with atomic_write(path) as stream:
            json.dump(content, stream, indent=1, default=str)  # paths
            stream.write("\n")
        return path
