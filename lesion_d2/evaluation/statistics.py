"""Means of per-image scores and how sure they are.

What is resampled are images: the flipped copies of an image tell no more than the image, so their
scores are averaged first.
"""

from collections.abc import Mapping

import numpy as np
from scipy.stats import bootstrap

from lesion_d2.data.coco import FLIP_ID_STEP


def mean_interval(
    values: np.ndarray, image_ids: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval (percentile method) of the mean of ``values``.

    Args:
        values: shape (N,). A single value, or N equal ones, give an interval of no width.
        image_ids: shape (N,); None if each value is of another image.
        seed: of the 10,000 resamples.
    """
    ((low, high),) = _mean_intervals(values[None], image_ids, seed)
    return low, high


def paired_interval(
    values: np.ndarray, baseline: np.ndarray, image_ids: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean difference of two scores of the same images.

    Args:
        values: shape (N,).
        baseline: shape (N,), of the same images in the same order.
        image_ids: see :func:`mean_interval`.
        seed: likewise.
    """
    return mean_interval(values - baseline, image_ids, seed)


def means_with_intervals(
    scores: Mapping[str, np.ndarray], image_ids: np.ndarray | None = None
) -> dict[str, float]:
    """Return the mean of each column of scores and its 95 % interval.

    Args:
        scores: at least one column of shape (N,), N at least 1, by name.
        image_ids: see :func:`mean_interval`.

    Returns:
        ``mean_<name>``, ``mean_<name>_low`` and ``mean_<name>_high`` of each, plain floats.
    """
    summary = {}
    table = np.array(list(scores.values()), float)
    intervals = _mean_intervals(table, image_ids)
    for name, values, interval in zip(scores, table, intervals, strict=True):
        summary[f"mean_{name}"] = float(np.mean(values))
        summary[f"mean_{name}_low"], summary[f"mean_{name}_high"] = interval
    return summary


def _mean_intervals(
    values: np.ndarray, image_ids: np.ndarray | None, seed: int = 0
) -> list[tuple[float, float]]:
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
        rng=np.random.default_rng(seed),
    ).confidence_interval
    equal = np.ptp(values, axis=1) == 0
    low, high = np.where(equal, means, interval)
    return list(zip(low.tolist(), high.tolist(), strict=True))
