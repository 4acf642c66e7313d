"""Ground truth at the size of the originals, for scoring as the challenge does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lesion_d2.errors import LesionError
from lesion_d2.images.masks import read_lesion
from lesion_d2.images.reading import read_header
from lesion_d2.images.source import BadFileError, read_source

# How much a data set's image may be stretched against its mask: what was squashed on purpose is
# not scored at another shape by mistake.
MAX_STRETCH = 0.02


class OriginalTruth:
    """A mapper that adds the official mask and makes its size the size of the output.

    Args:
        mapper: maps a dataset dict first.
        folder: holds ``ISIC_0000000_segmentation.png`` and so on.
    """

    def __init__(self, mapper: Callable[[dict[str, Any]], dict[str, Any]], folder: Path) -> None:
        self._mapper = mapper
        self._folder = folder

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one dict; ``"truth"`` is bool of shape (``"height"``, ``"width"``).

        Values above 128 are lesion, as in the official scorer; of two values the brighter.

        Raises:
            LesionError: if the mask is missing, unreadable, without lesion or of another aspect
                ratio than the image.
        """
        record = self._mapper(record)
        path = self._folder / f"{record['isic_id']}_segmentation.png"
        advice = "TEST.TRUTH_DIR must be the unpacked archive of official masks, or empty"
        try:
            data = read_source(path)
            truth = read_lesion(data, read_header(data), 128, lambda *_: None)
        except BadFileError as error:
            raise LesionError(f"{path}: cannot be used ({error}); {advice}") from error
        height, width = truth.shape
        if not _same_shape((record["height"], record["width"]), (height, width)):
            raise LesionError(
                f"{path}: is {width}x{height}, its image {record['width']}x{record['height']}: not "
                f"of one aspect ratio; {advice}"
            )
        record["truth"] = truth
        record["height"], record["width"] = truth.shape
        return record


def _same_shape(small: tuple[int, int], large: tuple[int, int]) -> bool:
    """Say whether two sizes differ by one factor for both sides, but for rounding up."""
    down, across = (small[axis] / large[axis] for axis in (0, 1))
    return abs(down - across) <= MAX_STRETCH * max(down, across) + 1 / min(large)
