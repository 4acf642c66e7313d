"""What a benchmark is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lesion_d2.errors import LesionError

MOST = 1_000_000


@dataclass(frozen=True)
class Options:
    """What a benchmark is told; names are those of the command line.

    Attributes:
        folder: to work in; it is empty.
        images: how many to use.
        sizes: (height, width) of drawn pictures, taken in turn.
        dataset: folder to take images from; None draws some. For ``convert`` and ``load`` it holds
            an archive, else it is a converted data set.
        repeats: timed rounds.
        threads: of OpenCV and torch.
        memory: whether to measure memory, too.
        growth: numbers of images to convert.
        batches: of a round of loading.
        steps: of a round of training with each loader.
        config_file: experiment.
        opts: overrides of it.
        weights: a checkpoint of it; None leaves weights random.

    Raises:
        LesionError: a number is not from 1 to a million.
    """

    folder: Path
    images: int
    sizes: Sequence[tuple[int, int]]
    dataset: Path | None = None
    repeats: int = 5
    threads: int = 1
    memory: bool = True
    growth: Sequence[int] = ()
    batches: int = 8
    steps: int = 8
    config_file: str = ""
    opts: Sequence[str] = ()
    weights: Path | None = None

    def __post_init__(self) -> None:
        names = ("images", "repeats", "threads", "batches", "steps")
        numbers = [(name, getattr(self, name)) for name in names]
        for name, value in [*numbers, *(("growth", count) for count in self.growth)]:
            if not 1 <= value <= MOST:
                raise LesionError(f"--{name}: {value} is not a number from 1 to {MOST:,}")

    @property
    def weights_words(self) -> str:
        """Whose weights the networks have, for a title."""
        return f"{'given' if self.weights else 'random'} weights"
