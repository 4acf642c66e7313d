"""Timing contenders in turn, and what their times say of each other.

Absolute times drift with whatever else a machine does. So contenders take turns, round by round,
and are compared within a round.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lesion_d2.parallel import progress_bar


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the rounds."""

    median: float
    q1: float
    q3: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.q1:.3g} - {self.q3:.3g})"


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles of at least one value."""
    q1, median, q3 = np.percentile(values, [25, 50, 75]).tolist()
    return Spread(median, q1, q3)


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the spread of ``above / below``, each taken within its round."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    desc: str,
    *,
    prepare: Callable[[str], object] = lambda name: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Let each contender work once a round, to the end, and return the seconds of each round.

    One more round goes before them, untimed. Every second round runs backwards, so that a steady
    drift favours nobody. ``prepare`` runs before each time with the name, and is not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with progress_bar(desc=desc, total=(rounds + 1) * len(contenders), unit="run") as bar:
        for number in range(-1, rounds):
            for name in contenders if number % 2 == 0 else reversed(list(contenders)):
                prepare(name)
                start = clock()
                contenders[name]()
                taken = clock() - start
                if number >= 0:
                    seconds[name].append(taken)
                bar.update()
    return seconds
