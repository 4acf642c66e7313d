"""What each setting of prediction brings on validation data, and which ones to use.

One pass over the images serves all combinations: the model runs once on each view of an image, and
what follows from its output (merging, choice, post-processing) is repeated for each of them.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN

from lesion_d2.data.members import ground_truth_rle
from lesion_d2.evaluation.official import official_scores
from lesion_d2.evaluation.statistics import FAILURE_IOU, mean_interval, paired_interval
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.modeling.precision import computing_in
from lesion_d2.prediction.candidates import detect, merge
from lesion_d2.prediction.choice import INSTANCE_CHOICES
from lesion_d2.prediction.confidence import feature_row
from lesion_d2.prediction.lesion import describe_lesion
from lesion_d2.prediction.postprocessing import Postprocessing
from lesion_d2.prediction.views import SYMMETRIES, build_views

FLIPS = ("identity", "horizontal", "vertical", "rotate180")
# name -> (symmetries, scales); the first is the plain prediction.
VIEW_SETS: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "identity": (("identity",), (1.0,)),
    "horizontal flip": (("identity", "horizontal"), (1.0,)),
    "flips": (FLIPS, (1.0,)),
    "flips and quarter turns": (tuple(SYMMETRIES), (1.0,)),
    "three scales": (("identity",), (1.0, 0.8, 1.25)),
}
CHOICES = ("top_score", "consensus", "union", "weighted_mean")
# What the challenge's text demands: one region without holes.
ONE_REGION = ("threshold", "largest_component", "fill_holes")
PIPELINES: tuple[tuple[str, ...], ...] = (
    ("threshold",),
    ("threshold", "largest_component"),
    ("threshold", "fill_holes"),
    ONE_REGION,
    ("threshold", "convex_hull"),
    *((f"threshold:{level}", *ONE_REGION[1:]) for level in (0.3, 0.35, 0.4, 0.45, 0.55, 0.6)),
    *((f"smooth:{width}", *ONE_REGION) for width in (0.005, 0.01, 0.02)),
)


class Setting(NamedTuple):
    """One combination."""

    views: str
    choice: str
    pipeline: tuple[str, ...]

    def options(self) -> dict[str, Any]:
        """Return it as keys of ``cfg.TEST``."""
        symmetries, scales = VIEW_SETS[self.views]
        return {
            "VIEWS": symmetries,
            "VIEW_SCALES": scales,
            "INSTANCE_CHOICE": self.choice,
            "POSTPROCESSING": self.pipeline,
        }


PLAIN = Setting("identity", "top_score", ("threshold",))


@dataclass(frozen=True, eq=False)
class Measurements:
    """What every setting gave on every image.

    Attributes:
        jaccard: by setting, shape (N,).
        features: by setting, shape (N, number of confidence features).
    """

    jaccard: dict[Setting, np.ndarray]
    features: dict[Setting, np.ndarray]


class Row(NamedTuple):
    """What a setting is worth against another one that differs from it in one part.

    ``mean`` and ``gain`` are of the Jaccard index, with their 95 % intervals.
    """

    part: str
    setting: Setting
    baseline: Setting
    mean: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    threshold_jaccard: float
    baseline_threshold_jaccard: float
    below_065: int

    @property
    def earned(self) -> bool:
        """Whether the setting is better for sure, and not at the cost of more failures."""
        return self.gain_low > 0 and self.threshold_jaccard >= self.baseline_threshold_jaccard


def measure(
    model: GeneralizedRCNN,
    batches: Iterable[list[dict[str, Any]]],
    precision: str = "float32",
) -> Measurements:
    """Try every combination on every image.

    Args:
        model: trained, in evaluation mode.
        batches: of the test loader.
        precision: what the network computes with, see ``TEST.PRECISION``.
    """
    pipelines = {steps: Postprocessing(steps) for steps in PIPELINES}
    settings = [Setting(*s) for s in itertools.product(VIEW_SETS, CHOICES, PIPELINES)]
    jaccard: dict[Setting, list[float]] = {setting: [] for setting in settings}
    features: dict[Setting, list[list[float]]] = {setting: [] for setting in settings}
    views = {name: build_views(*members) for name, members in VIEW_SETS.items()}
    every = list(dict.fromkeys(view for members in views.values() for view in members))
    for member in itertools.chain.from_iterable(batches):
        truth = ground_truth_rle(member)
        size = member["height"], member["width"]
        with torch.inference_mode(), computing_in(precision, model):
            (seen,) = detect(model, [member["image"]], every)
        found = dict(zip(every, seen, strict=True))
        for name, members in views.items():
            merged = merge([found[view] for view in members])
            for choice in CHOICES:
                chosen = INSTANCE_CHOICES.get(choice)(merged)
                for steps, postprocess in pipelines.items():
                    mask = np.zeros(size, bool)
                    if len(chosen):
                        mask = postprocess(chosen.masks[0].numpy(), size)
                    lesion = describe_lesion(mask, chosen, len(merged))
                    setting = Setting(name, choice, steps)
                    jaccard[setting].append(official_scores(truth, encode_mask(mask))["jaccard"])
                    features[setting].append(feature_row(lesion))
    return Measurements(
        {setting: np.array(values) for setting, values in jaccard.items()},
        {setting: np.array(values) for setting, values in features.items()},
    )


def select(measurements: Measurements) -> tuple[Setting, list[Row]]:
    """Choose views, then the choice of instance, then the steps, each the best so far.

    Something replaces the plain way only if its gain is above 0 with the whole 95 % interval and
    the mean thresholded Jaccard index, which ranks the challenge, does not fall: a mean can rise
    while more images fail. One region without holes is the exception: the challenge demands it.

    Returns:
        the setting to use, and what was compared on the way.
    """
    rows: list[Row] = []
    current = PLAIN

    def decide(part: str, options: list[Setting]) -> Setting:
        tried = [_row(part, option, current, measurements) for option in options]
        rows.extend(tried)
        earned = [row for row in tried if row.earned]
        return max(earned, key=lambda row: row.mean).setting if earned else current

    current = decide("views", [current._replace(views=name) for name in VIEW_SETS])
    current = decide("choice", [current._replace(choice=name) for name in CHOICES])
    steps = [current._replace(pipeline=steps) for steps in PIPELINES]
    rows += [_row("step", setting, current, measurements) for setting in steps[:5]]
    current = current._replace(pipeline=ONE_REGION)
    current = decide("level or smoothing", [steps[3], *steps[5:]])
    return current, rows


def _row(part: str, setting: Setting, baseline: Setting, measurements: Measurements) -> Row:
    values, base = measurements.jaccard[setting], measurements.jaccard[baseline]
    return Row(
        part,
        setting,
        baseline,
        float(values.mean()),
        *mean_interval(values),
        float((values - base).mean()),
        *paired_interval(values, base),
        _thresholded(values),
        _thresholded(base),
        int((values < FAILURE_IOU).sum()),
    )


def _thresholded(jaccard: np.ndarray) -> float:
    return float(np.where(jaccard >= FAILURE_IOU, jaccard, 0).mean())
