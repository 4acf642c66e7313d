"""Means of a score in bins of something else, with intervals."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lesion_d2.evaluation.statistics import mean_interval

MOST_BINS = 6
FEWEST_IMAGES = 5


class Bin(NamedTuple):
    """Some images.

    Attributes:
        label: what they have in common.
        place: mean of what they are binned by; of a category its number, from 0.
        values: their scores, ordered by what they are binned by, shape (N,).
        mean: of the scores.
        low: end of its 95 % bootstrap interval.
        high: likewise.
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
    by: npt.ArrayLike,
    values: npt.ArrayLike,
    label: Callable[[float, float], str],
    most: int = MOST_BINS,
) -> list[Bin]:
    """Return bins of about equally many images each, ascending.

    Images with the same value of ``by`` share a bin, and there are fewer bins than ``most`` where
    less than 5 images would come to each.

    Args:
        by: what to bin by, shape (N,).
        values: the score of each image, shape (N,).
        label: least and greatest value of ``by`` in a bin -> its label.
        most: number of bins.
    """
    by, values = np.asarray(by, float), np.asarray(values, float)
    if not len(by):
        return []
    count = max(1, min(most, len(by) // FEWEST_IMAGES))
    edges = np.unique(np.quantile(by, np.arange(1, count) / count))
    index = np.searchsorted(edges, by, side="left")
    bins = []
    for number in np.unique(index):
        chosen = np.flatnonzero(index == number)
        chosen = chosen[np.argsort(by[chosen], kind="stable")]
        ends = float(by[chosen[0]]), float(by[chosen[-1]])
        bins.append(_bin(label(*ends), float(by[chosen].mean()), values[chosen]))
    return bins


def category_bins(
    by: Sequence[Hashable], values: npt.ArrayLike, labels: Mapping[Hashable, str]
) -> list[Bin]:
    """Return a bin for each category that has images.

    Args:
        by: the category of each image.
        values: the score of each image, shape (N,).
        labels: category -> label, in the order of the bins.
    """
    values = np.asarray(values, float)
    groups = {label: values[[category == key for category in by]] for key, label in labels.items()}
    present = [(label, group) for label, group in groups.items() if len(group)]
    return [_bin(label, number, group) for number, (label, group) in enumerate(present)]
