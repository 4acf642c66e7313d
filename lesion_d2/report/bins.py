"""Means of a score in bins of something else, with intervals, as points and as a table."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from lesion_d2.evaluation.statistics import mean_interval
from lesion_d2.figures.style import SECOND_COLOUR

FEWEST_IMAGES = 5


class Bin(NamedTuple):
    """Some images: their scores, ordered by what they are binned by, with mean and 95 % interval.

    ``place`` is the mean of what they are binned by; of a category it is 0.
    """

    label: str
    place: float
    values: npt.NDArray[np.float64]
    mean: float
    low: float
    high: float


def _bin(label: str, place: float, values: npt.NDArray[np.float64]) -> Bin:
    return Bin(label, place, values, float(np.mean(values)), *mean_interval(values))


def quantile_bins(
    by: npt.ArrayLike, values: npt.ArrayLike, digits: str, most: int = 6
) -> list[Bin]:
    """Return bins of about equally many images each, ascending.

    Images with the same value of ``by`` share a bin, and there are fewer bins than ``most`` where
    less than 5 images would come to each.

    Args:
        by: what to bin by, shape (N,).
        values: the score of each image, shape (N,).
        digits: how the ends of a bin are written in its label, such as ``.1f`` for 1.0–2.5.
        most: number of bins.
    """
    by, values = np.asarray(by, float), np.asarray(values, float)
    if not len(by):
        return []
    order = np.argsort(by, kind="stable")
    count = max(1, min(most, len(by) // FEWEST_IMAGES))
    edges = np.unique(np.quantile(by, np.arange(1, count) / count))
    bins = []
    for chosen in np.split(order, np.searchsorted(by[order], edges, side="right")):
        if len(chosen):
            label = "–".join(dict.fromkeys(f"{by[end]:{digits}}" for end in chosen[[0, -1]]))
            bins.append(_bin(label, float(by[chosen].mean()), values[chosen]))
    return bins


def category_bins(by: Sequence[str], values: npt.ArrayLike, categories: Sequence[str]) -> list[Bin]:
    """Return a bin for each of ``categories`` that has images, in that order."""
    values, names = np.asarray(values, float), np.array(by)
    return [_bin(name, 0, values[names == name]) for name in categories if name in by]


def bin_table(bins: Sequence[Bin], what: str) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return head and rows of a table of bins of ``what``."""
    rows = [
        (b.label, f"{len(b.values):,}", f"{b.mean:.3f}", f"{b.low:.3f} to {b.high:.3f}")
        for b in bins
    ]
    return (what, "images", "mean IoU", "95 % interval"), rows


def mean_points(ax: Axes, places: Sequence[float], bins: Sequence[Bin]) -> None:
    """Draw the mean of each bin and its interval."""
    means = np.array([b.mean for b in bins])
    errors = np.abs(np.array([(b.low, b.high) for b in bins]).T - means)
    ax.errorbar(places, means, errors, fmt="D", color=SECOND_COLOUR, capsize=4, markersize=5)
