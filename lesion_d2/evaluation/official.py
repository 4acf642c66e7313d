"""The challenge's metrics of one submitted mask.

Definitions and degenerate cases are those of the official scorer, the package
``isic-challenge-scoring`` 5.x (ISIC 2018 Task 1), to the last digit.
"""

import numpy as np
import numpy.typing as npt

from lesion_d2.evaluation.statistics import FAILURE_IOU

OFFICIAL_METRICS = (
    "jaccard",
    "threshold_jaccard",
    "dice",
    "sensitivity",
    "specificity",
    "accuracy",
)

# The columns of `per_image.csv` that are scores: the seed experiment's two, and these.
SCORES = ("max_iou", "top1_iou", *OFFICIAL_METRICS)


def official_scores(
    truth: npt.NDArray[np.bool_], prediction: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Score a mask against the truth.

    Args:
        truth: (H, W).
        prediction: (H, W).

    Returns:
        the value of each of :data:`OFFICIAL_METRICS`. Where nothing is to be found and nothing
        was, a score is 1; a Jaccard index below 0.65 counts as 0 in ``threshold_jaccard``.
    """
    true_positives = int(np.count_nonzero(truth & prediction))
    false_positives = int(np.count_nonzero(prediction)) - true_positives
    false_negatives = int(np.count_nonzero(truth)) - true_positives
    true_negatives = truth.size - true_positives - false_positives - false_negatives
    wrong = false_positives + false_negatives
    jaccard = _ratio(true_positives, true_positives + wrong)
    return {
        "jaccard": jaccard,
        "threshold_jaccard": jaccard if jaccard >= FAILURE_IOU else 0.0,
        "dice": _ratio(2 * true_positives, 2 * true_positives + wrong),
        "sensitivity": _ratio(true_positives, true_positives + false_negatives),
        "specificity": _ratio(true_negatives, true_negatives + false_positives),
        "accuracy": _ratio(true_positives + true_negatives, truth.size),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
