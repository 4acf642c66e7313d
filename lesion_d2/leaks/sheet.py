"""Contact sheets: the two images of each pair side by side, to judge them by eye."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from lesion_d2.data.converted import LesionImage
from lesion_d2.figures.style import DPI, PANEL_INCHES, image_pairs, show_image
from lesion_d2.images.scaling import fit
from lesion_d2.leaks.search import Twins

PAIRS_A_ROW = 3
PAIRS_A_SHEET = 24


def sheet_figures(pairs: Sequence[Twins], limit: int) -> Iterator[Figure]:
    """Draw pairs in their order, up to 24 a sheet.

    Args:
        pairs: any number.
        limit: the most sheets.

    Raises:
        LesionError: an image file cannot be read.
    """
    for start in range(0, min(len(pairs), limit * PAIRS_A_SHEET), PAIRS_A_SHEET):
        part = pairs[start : start + PAIRS_A_SHEET]
        title = f"pairs across splits, {start + 1:,} to {start + len(part):,} of {len(pairs):,}"
        figure, axes = image_pairs(len(part), title, PAIRS_A_ROW)
        for panels, pair in zip(axes, part, strict=True):
            heads = (pair.kind.replace("_", " "), f"{pair.hash_distance} bits differ")
            if pair.score is not None:
                heads = (f"{heads[0]}, score {pair.score}", heads[1])
            for ax, head, side in zip(panels, heads, (pair.first, pair.second), strict=True):
                title = f"{head}\n{side.image.isic_id}\n{side.place}"
                show_image(ax, _thumbnail(side.image), title)
        yield figure


def _thumbnail(image: LesionImage) -> np.ndarray:
    """Return an image no larger than its panel: a sheet holds 48."""
    return fit(image.read_rgb(), PANEL_INCHES * DPI)
