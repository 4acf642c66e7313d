"""The metrics: each is declared here, and nowhere else.

To add a score of an image, write its function of an :class:`Outcome` and an entry of
:data:`METRICS`. Evaluation, tables, figures, report, comparison and the readers of files take all
else from the entry.

Definitions and degenerate cases of the submitted mask's scores are those of the official scorer,
the package ``isic-challenge-scoring`` 5.x (ISIC 2018 Task 1), to the last digit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pycocotools import mask as coco_mask

from lesion_d2.evaluation.failure_detection import FAILURE_IOU


@dataclass(frozen=True)
class Outcome:
    """What was predicted of an image, held against the truth.

    Attributes:
        tp: pixels of the submitted mask that are lesion.
        fp: pixels of it that are not.
        fn: pixels of the lesion that are not in it.
        tn: all others.
        ious: of the instances from the score threshold on with the truth, by falling score.
    """

    tp: int
    fp: int
    fn: int
    tn: int
    ious: Sequence[float] = ()


def hold_against(
    truth: dict[str, Any], submitted: dict[str, Any], ious: Sequence[float] = ()
) -> Outcome:
    """Count the pixels of true and submitted mask, compressed COCO RLEs of one shape."""
    both = coco_mask.merge([truth, submitted], intersect=True)
    shared, true, positive = coco_mask.area([both, truth, submitted]).tolist()
    height, width = truth["size"]
    others = height * width - true - positive + shared
    return Outcome(shared, positive - shared, true - shared, others, ious)


def _jaccard(o: Outcome) -> float:
    return _ratio(o.tp, o.tp + o.fp + o.fn)


def _threshold_jaccard(o: Outcome) -> float:
    return jaccard if (jaccard := _jaccard(o)) >= FAILURE_IOU else 0.0


def _dice(o: Outcome) -> float:
    return _ratio(2 * o.tp, 2 * o.tp + o.fp + o.fn)


def _accuracy(o: Outcome) -> float:
    return _ratio(o.tp + o.tn, o.tp + o.tn + o.fp + o.fn)


def _ratio(part: int, whole: int) -> float:
    """Return a share; 1 where there was nothing to find and nothing was found."""
    return part / whole if whole else 1.0


@dataclass(frozen=True)
class Metric:
    """A score of an image.

    Attributes:
        name: of its column in ``per_image.csv``; ``mean_<name>`` in ``metrics.json``.
        words: its name for people.
        note: what it is.
        score: its function.
        limits: the least and the greatest value it can have.
        format: of an image's value.
        mean_format: of a mean.
        lower_is_better: whether it is.
    """

    name: str
    words: str
    note: str
    score: Callable[[Outcome], float]
    limits: tuple[float, float] = (0.0, 1.0)
    format: str = ".3f"
    mean_format: str = ".4f"
    lower_is_better: bool = False


_INSTANCES = "largest over the instances from the score threshold on"
_TOP = "of the instance of highest score"
_THRESHOLD = f"0 below {FAILURE_IOU}; ranks the challenge"
_METRICS = (
    Metric("max_iou", "Max IoU", _INSTANCES, lambda o: max(o.ious, default=0.0)),
    Metric("top1_iou", "Top-1 IoU", _TOP, lambda o: o.ious[0] if o.ious else 0.0),
    Metric("jaccard", "Jaccard", "IoU of the submitted mask", _jaccard),
    Metric("threshold_jaccard", "Threshold Jaccard", _THRESHOLD, _threshold_jaccard),
    Metric("dice", "Dice", "of the submitted mask", _dice),
    Metric("sensitivity", "Sensitivity", "of its pixels", lambda o: _ratio(o.tp, o.tp + o.fn)),
    Metric("specificity", "Specificity", "of its pixels", lambda o: _ratio(o.tn, o.tn + o.fp)),
    Metric("accuracy", "Accuracy", "of its pixels", _accuracy),
)
METRICS = {metric.name: metric for metric in _METRICS}


def score_image(outcome: Outcome) -> dict[str, float]:
    """Return the value of each of :data:`METRICS`."""
    return {name: metric.score(outcome) for name, metric in METRICS.items()}


@dataclass(frozen=True)
class Count:
    """A number of images that something is wrong with; the lower the better.

    Attributes:
        name: of its key in ``metrics.json``.
        words: its name for people.
        column: of ``per_image.csv``.
        wrong: says of an array of the column's values which are wrong.
    """

    name: str
    words: str
    column: str
    wrong: Callable[[Any], Any]
    mean_format: ClassVar[str] = ".4f"
    lower_is_better: ClassVar[bool] = True


_LEVEL = f"below_{FAILURE_IOU:.2f}".replace(".", "")
FAILED = f"submitted_{_LEVEL}"
_COUNTS = (
    Count("misses", "Images missed", "num_instances", lambda number: number == 0),
    Count(_LEVEL, f"Max IoU below {FAILURE_IOU}", "max_iou", lambda iou: iou < FAILURE_IOU),
    Count(FAILED, f"Jaccard below {FAILURE_IOU}", "jaccard", lambda iou: iou < FAILURE_IOU),
    Count("submitted_empty", "Submitted masks empty", "area_share", lambda share: share == 0),
)
COUNTS = {count.name: count for count in _COUNTS}
# All that evaluations are compared by.
MEASURES: dict[str, Metric | Count] = {**METRICS, **COUNTS}
