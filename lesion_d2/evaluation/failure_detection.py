"""Which images failed, and how well an estimate of the IoU finds them."""

import numpy as np

# The challenge scores an image 0 below this Jaccard index (arXiv:1902.03368, section 2.1).
FAILURE_IOU = 0.65
REVIEWED_SHARE = 0.1


def failure_detection(estimated: np.ndarray, jaccard: np.ndarray) -> dict[str, float | None]:
    """Compare the estimated IoU with the one reached, both of shape (N,).

    Returns:
        ``failures`` (images below :data:`FAILURE_IOU`), ``auroc`` (how often a failure has a lower
        estimate than a success, ties half), ``caught_at_10_percent`` (share of the failures among
        the tenth of all images with the lowest estimates), both None unless there are failures and
        successes; and ``mean_absolute_error`` of the estimate.
    """
    failed = jaccard < FAILURE_IOU
    failures = int(failed.sum())
    auroc = caught = None
    if 0 < failures < len(failed):
        from scipy.stats import mannwhitneyu  # slow to import, and --help reads the level above

        statistic = mannwhitneyu(estimated[~failed], estimated[failed]).statistic
        auroc = float(statistic / (failures * (len(failed) - failures)))
        reviewed = np.argsort(estimated, kind="stable")[: round(REVIEWED_SHARE * len(failed))]
        caught = float(failed[reviewed].sum() / failures)
    return {
        "failures": failures,
        "auroc": auroc,
        "caught_at_10_percent": caught,
        "mean_absolute_error": float(np.abs(estimated - jaccard).mean()),
    }
