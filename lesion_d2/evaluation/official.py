"""The challenge's metrics of one submitted mask.

Definitions and degenerate cases are those of the official scorer, the package
``isic-challenge-scoring`` 5.x (ISIC 2018 Task 1), to the last digit.
"""

from typing import Any

from pycocotools import mask as mask_util

from lesion_d2.evaluation.statistics import FAILURE_IOU

OFFICIAL_METRICS = (
    "jaccard",
    "threshold_jaccard",
    "dice",
    "sensitivity",
    "specificity",
    "accuracy",
)

# The columns of `per_image.csv` that are scores: the original experiment's two, and these.
SCORES = ("max_iou", "top1_iou", *OFFICIAL_METRICS)


def official_scores(truth: dict[str, Any], prediction: dict[str, Any]) -> dict[str, float]:
    """Score a mask against the truth.

    Args:
        truth: compressed COCO RLE of shape (H, W), see
            :func:`lesion_d2.images.run_lengths.encode_mask`.
        prediction: the same of the prediction.

    Returns:
        the value of each of :data:`OFFICIAL_METRICS`. Where nothing is to be found and nothing
        was, a score is 1; a Jaccard index below 0.65 counts as 0 in ``threshold_jaccard``.
    """
    both = mask_util.merge([truth, prediction], intersect=True)
    true_positives, true, positive = mask_util.area([both, truth, prediction]).tolist()
    false_positives = positive - true_positives
    false_negatives = true - true_positives
    height, width = truth["size"]
    pixels = height * width
    true_negatives = pixels - true_positives - false_positives - false_negatives
    wrong = false_positives + false_negatives
    jaccard = _ratio(true_positives, true_positives + wrong)
    return {
        "jaccard": jaccard,
        "threshold_jaccard": jaccard if jaccard >= FAILURE_IOU else 0.0,
        "dice": _ratio(2 * true_positives, 2 * true_positives + wrong),
        "sensitivity": _ratio(true_positives, true_positives + false_negatives),
        "specificity": _ratio(true_negatives, true_negatives + false_positives),
        "accuracy": _ratio(true_positives + true_negatives, pixels),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
