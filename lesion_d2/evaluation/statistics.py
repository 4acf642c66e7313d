"""Summary statistics of per-image scores."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import bootstrap

# The challenge scores an image 0 below this Jaccard index (arXiv:1902.03368, section 2.1).
FAILURE_IOU = 0.65


def mean_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval (percentile method) of the mean of ``values``.

    Args:
        values: shape (N,). A single value, or N equal ones, give an interval of no width.
        seed: of the 10,000 resamples.
    """
    ((low, high),) = _mean_intervals(values[None], seed)
    return low, high


def _mean_intervals(values: np.ndarray, seed: int = 0) -> list[tuple[float, float]]:
    """Return the interval of each row of values, shape (M, N); one drawing serves all rows."""
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


def paired_interval(values: np.ndarray, baseline: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean difference of two scores of the same images.

    Args:
        values: shape (N,).
        baseline: shape (N,), of the same images in the same order.
        seed: of the 10,000 resamples of images.
    """
    return mean_interval(values - baseline, seed)


def summarise(scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the mean of each column of scores and its 95 % interval.

    Args:
        scores: columns of shape (N,) by name, N at least 1.

    Returns:
        ``mean_<name>``, ``mean_<name>_low`` and ``mean_<name>_high`` of each, plain floats.
    """
    if not scores:
        return {}
    summary = {}
    table = np.array(list(scores.values()), float)
    for name, values, interval in zip(scores, table, _mean_intervals(table), strict=True):
        summary[f"mean_{name}"] = float(np.mean(values))
        summary[f"mean_{name}_low"], summary[f"mean_{name}_high"] = interval
    return summary
