"""What a benchmark is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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
        batches: of a round of loading.
        config_file: experiment.
        opts: overrides of it.
        weights: a checkpoint of it; None leaves weights random.
    """

    folder: Path
    images: int
    sizes: Sequence[tuple[int, int]]
    dataset: Path | None = None
    repeats: int = 5
    threads: int = 1
    batches: int = 8
    config_file: str = ""
    opts: Sequence[str] = ()
    weights: Path | None = None

    @property
    def weights_words(self) -> str:
        """Whose weights the networks have, for a title."""
        return f"{'given' if self.weights else 'random'} weights"
