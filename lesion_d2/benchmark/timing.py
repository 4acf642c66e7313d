"""Timing contenders in turn, and what their times say of each other.

Absolute times drift with whatever else a machine does. So contenders take turns, round by round,
and are compared within a round.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lesion_d2.parallel import progress_bar


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Contender:
    """Somebody who does a piece of work.

    Attributes:
        name: as in the table.
        run: does the work once, to the end.
        prepare: runs before each time, and is not timed.
    """

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] = _nothing


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
    contenders: Sequence[Contender],
    rounds: int,
    desc: str,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Let each contender work once a round, and time it.

    Every second round runs backwards, so that a steady drift favours nobody.

    Args:
        contenders: of different names.
        rounds: how many are timed, 1 or more.
        desc: label of the progress bar.
        warm_up: whether one more round goes before them, untimed.
        clock: returns seconds.

    Returns:
        the seconds of each round, by name.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    total = (rounds + warm_up) * len(contenders)
    with progress_bar(desc=desc, total=total, unit="run") as bar:
        for number in range(-warm_up, rounds):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                contender.prepare()
                start = clock()
                contender.run()
                taken = clock() - start
                if number >= 0:
                    seconds[contender.name].append(taken)
                bar.update()
    return seconds
