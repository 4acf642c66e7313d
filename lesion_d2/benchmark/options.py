"""Options that all benchmarks share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lesion_d2.errors import LesionError

MAX_IMAGES = 1_000_000


@dataclass(frozen=True)
class Common:
    """What every benchmark is told; ``NAMES`` are those of the command line.

    Attributes:
        folder: to work in; it is empty.
        images: how many to use.
        sizes: (height, width) of drawn pictures, taken in turn.
        dataset: folder to take images from; None draws some.
        repeats: timed rounds.
        threads: of OpenCV and torch.
        memory: whether to measure memory, too.
    """

    NAMES: ClassVar = ("images", "sizes", "dataset", "repeats", "threads", "memory")

    folder: Path
    images: int
    sizes: Sequence[tuple[int, int]]
    dataset: Path | None = None
    repeats: int = 5
    threads: int = 1
    memory: bool = True

    def __post_init__(self) -> None:
        for name in ("images", "repeats", "threads"):
            check_count(f"--{name}", getattr(self, name))


def check_count(option: str, value: int) -> None:
    """Raise a LesionError if a value is not from 1 to a million."""
    if not 1 <= value <= MAX_IMAGES:
        raise LesionError(f"{option}: {value} is not a number from 1 to {MAX_IMAGES:,}")
