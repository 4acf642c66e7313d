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
    if len(values) < 2 or np.ptp(values) == 0:
        mean = float(np.mean(values))
        return mean, mean
    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=10_000,
        batch=500,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


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
    summary = {}
    for name, values in scores.items():
        low, high = mean_interval(values)
        summary[f"mean_{name}"] = float(np.mean(values))
        summary[f"mean_{name}_low"], summary[f"mean_{name}_high"] = low, high
    return summary
