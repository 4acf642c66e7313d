"""Means of per-image scores and how sure they are.

What is resampled are images: the flipped copies of an image tell no more than the image, so their
scores are averaged first.
"""

from collections.abc import Mapping

import numpy as np
from scipy.stats import bootstrap

from lesion_d2.data.coco import FLIP_ID_STEP


def mean_interval(values: np.ndarray, image_ids: np.ndarray | None = None) -> tuple[float, float]:
    """Return the 95 % interval of the mean of values, shape (N,): bootstrap, percentile method.

    A single value, or N equal ones, give an interval of no width. The image ids, shape (N,), may be
    None if each value is of another image.
    """
    ((low, high),) = _mean_intervals(values[None], image_ids)
    return low, high


def paired_interval(
    values: np.ndarray, baseline: np.ndarray, image_ids: np.ndarray | None = None
) -> tuple[float, float]:
    """Return that of the mean difference of two scores, shape (N,), of the same images in order."""
    return mean_interval(values - baseline, image_ids)


def means_with_intervals(
    scores: Mapping[str, np.ndarray], image_ids: np.ndarray | None = None
) -> dict[str, float]:
    """Return the mean of each column of scores, shape (N,), N at least 1, and its 95 % interval.

    They are ``mean_<name>``, ``mean_<name>_low`` and ``mean_<name>_high``, plain floats.
    """
    summary = {}
    table = np.array(list(scores.values()), float)
    intervals = _mean_intervals(table, image_ids)
    for name, values, interval in zip(scores, table, intervals, strict=True):
        summary[f"mean_{name}"] = float(np.mean(values))
        summary[f"mean_{name}_low"], summary[f"mean_{name}_high"] = interval
    return summary


def _mean_intervals(values: np.ndarray, image_ids: np.ndarray | None) -> list[tuple[float, float]]:
    """Return the interval of each row of values, shape (M, N); one drawing serves all rows."""
    if image_ids is not None:
        _, image, copies = np.unique(
            image_ids % FLIP_ID_STEP, return_inverse=True, return_counts=True
        )
        if copies.max() > 1:
            values = np.stack([np.bincount(image, row) / copies for row in values])
    means = values.mean(1)
    if values.shape[1] < 2:
        return [(mean, mean) for mean in means.tolist()]

    def resampled_means(images: np.ndarray, axis: int) -> np.ndarray:
        return np.stack([row[images].mean(axis) for row in values])

    interval = bootstrap(
        (np.arange(values.shape[1]),),
        resampled_means,
        n_resamples=10_000,
        batch=500,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    equal = np.ptp(values, axis=1) == 0
    low, high = np.where(equal, means, interval)
    return list(zip(low.tolist(), high.tolist(), strict=True))
