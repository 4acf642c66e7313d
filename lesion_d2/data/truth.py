"""Ground truth at the size of the originals, for scoring as the challenge does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lesion_d2.errors import LesionError
from lesion_d2.images.reading import BadFileError, decode_mask, orient, read_header


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

        Values above 128 are lesion, as in the official scorer.

        Raises:
            LesionError: if the mask is missing, unreadable or not a grey one of 8 bits.
        """
        record = self._mapper(record)
        path = self._folder / f"{record['isic_id']}_segmentation.png"
        advice = "TEST.TRUTH_DIR must be the unpacked archive of official masks, or empty"
        try:
            data = path.read_bytes()
            header = read_header(data)
            mask = orient(decode_mask(data, header)[0], header.orientation)
        except (OSError, BadFileError) as error:
            raise LesionError(f"{path}: cannot be read ({error}); {advice}") from error
        if mask.ndim != 2 or mask.dtype != "uint8":
            raise LesionError(f"{path}: is not a grey image of 8 bits; {advice}")
        record["truth"] = mask > 128
        record["height"], record["width"] = mask.shape
        return record
