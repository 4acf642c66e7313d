"""Summary statistics of per-image scores."""

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


def summarise(max_iou: np.ndarray, top1_iou: np.ndarray, instances: np.ndarray) -> dict[str, float]:
    """Summarise the scores of a data set.

    Args:
        max_iou: shape (N,), the best IoU of each image's instances, 0 where there is none.
        top1_iou: shape (N,), the IoU of each image's instance of highest score.
        instances: shape (N,), how many instances count in each image.

    Returns:
        means, 95 % interval, quartiles and counts, all plain floats.
    """
    low, high = mean_interval(max_iou)
    first, median, third = np.percentile(max_iou, [25, 50, 75])
    return {
        "mean_max_iou": float(np.mean(max_iou)),
        "mean_max_iou_low": low,
        "mean_max_iou_high": high,
        "q1_max_iou": float(first),
        "median_max_iou": float(median),
        "q3_max_iou": float(third),
        "mean_top1_iou": float(np.mean(top1_iou)),
        "misses": float(np.sum(instances == 0)),
        "below_065": float(np.sum(max_iou < FAILURE_IOU)),
        "num_images": float(len(max_iou)),
    }
