"""What each setting of prediction brings on validation data, and which ones to use."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lesion_d2.data.members import ground_truth_rle
from lesion_d2.evaluation.failure_detection import FAILURE_IOU
from lesion_d2.evaluation.metrics import METRICS, hold_against
from lesion_d2.evaluation.statistics import mean_interval, paired_interval
from lesion_d2.images.run_lengths import encode_mask
from lesion_d2.prediction.candidates import INSTANCE_CHOICES, Network, merge
from lesion_d2.prediction.confidence import feature_row
from lesion_d2.prediction.lesion import Postprocessing
from lesion_d2.prediction.outliner import submit
from lesion_d2.prediction.views import SYMMETRIES, build_views, detect, look_again

# name -> (symmetries, scales, margin of the second look); the first is the plain prediction.
VIEW_SETS: dict[str, tuple[tuple[str, ...], tuple[float, ...], float]] = {
    "identity": (("identity",), (1.0,), 0.0),
    "horizontal flip": (("identity", "horizontal"), (1.0,), 0.0),
    "flips": (("identity", "horizontal", "vertical", "rotate180"), (1.0,), 0.0),
    "flips and quarter turns": (tuple(SYMMETRIES), (1.0,), 0.0),
    "three scales": (("identity",), (1.0, 0.8, 1.25), 0.0),
    "second look": (("identity",), (1.0,), 1.75),
}
# What the challenge's text demands: one region without holes.
ONE_REGION = ("threshold", "largest_component", "fill_holes")
LEVELS: tuple[tuple[str, ...], ...] = (
    ONE_REGION,
    *((f"threshold:{level}", *ONE_REGION[1:]) for level in (0.3, 0.35, 0.4, 0.45, 0.55, 0.6)),
)


class Setting(NamedTuple):
    """One combination."""

    views: str
    choice: str
    steps: tuple[str, ...]

    def options(self) -> dict[str, Any]:
        """Return it as keys of ``cfg.TEST``."""
        symmetries, scales, second_look = VIEW_SETS[self.views]
        return {
            "VIEWS": symmetries,
            "VIEW_SCALES": scales,
            "SECOND_LOOK": second_look,
            "INSTANCE_CHOICE": self.choice,
            "POSTPROCESSING": self.steps,
        }


PLAIN = Setting("identity", "top_score", ONE_REGION)


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a setting gave on N images.

    Attributes:
        jaccard: of the submitted masks, shape (N,).
        features: of the confidence model, shape (N, number of features).
    """

    jaccard: np.ndarray
    features: np.ndarray

    @property
    def threshold_jaccard(self) -> float:
        """Mean of the Jaccard index with failures as 0, which ranks the challenge."""
        return float(np.where(self.jaccard >= FAILURE_IOU, self.jaccard, 0).mean())


class Trial(NamedTuple):
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
    failures: int

    @property
    def earned(self) -> bool:
        """Whether the setting is better for sure, and not at the cost of more failures."""
        return self.gain_low > 0 and self.threshold_jaccard >= self.baseline_threshold_jaccard


def measure(
    network: Network,
    batches: Iterable[list[dict[str, Any]]],
    settings: Sequence[Setting],
) -> dict[Setting, Measurement]:
    """Try settings on every image of the test loader; the network runs once on each view."""
    jaccard: dict[Setting, list[float]] = {setting: [] for setting in settings}
    features: dict[Setting, list[list[float]]] = {setting: [] for setting in settings}
    postprocess = {setting.steps: Postprocessing(setting.steps) for setting in settings}
    views = {s.views: build_views(*VIEW_SETS[s.views][:2]) for s in settings}
    every = list(dict.fromkeys(itertools.chain.from_iterable(views.values())))
    for member in itertools.chain.from_iterable(batches):
        truth, size = ground_truth_rle(member), (member["height"], member["width"])
        images = [member["image"].numpy()]
        (seen,) = detect(network, images, every)
        by_view = dict(zip(every, seen, strict=True))
        merged = {}
        for name, members in views.items():
            found = [by_view[view] for view in members]
            if margin := VIEW_SETS[name][2]:
                found += look_again(network, images, [merge(found)], margin).values()
            merged[name] = merge(found)
        for setting in settings:
            lesion = submit(merged[setting.views], setting.choice, postprocess[setting.steps], size)
            outcome = hold_against(truth, encode_mask(lesion.mask))
            jaccard[setting].append(METRICS["jaccard"].score(outcome))
            features[setting].append(feature_row(lesion))
    return {s: Measurement(np.array(jaccard[s]), np.array(features[s])) for s in settings}


def select(
    measure: Callable[[Sequence[Setting]], dict[Setting, Measurement]],
) -> tuple[Setting, Measurement, list[Trial]]:
    """Choose views, then the choice of instance, then the level, each the best so far.

    Something replaces the plain way only if its gain is above 0 with the whole 95 % interval and
    the mean thresholded Jaccard index, which ranks the challenge, does not fall: a mean can rise
    while more images fail. ``measure`` tries settings on the same images, each image once.

    Returns:
        the setting to use, what it gave, and what was compared on the way.
    """
    trials: list[Trial] = []
    current = PLAIN

    def decide(part: str, options: list[Setting]) -> Setting:
        tried = [_trial(part, option, current, found) for option in options]
        trials.extend(tried)
        earned = [trial for trial in tried if trial.earned]
        return max(earned, key=lambda trial: trial.mean).setting if earned else current

    found = measure(
        [Setting(*s, PLAIN.steps) for s in itertools.product(VIEW_SETS, INSTANCE_CHOICES)]
    )
    current = decide("views", [current._replace(views=name) for name in VIEW_SETS])
    current = decide("choice", [current._replace(choice=name) for name in INSTANCE_CHOICES])
    levels = [current._replace(steps=steps) for steps in LEVELS]
    found = measure(levels)
    current = decide("level", levels)
    return current, found[current], trials


def _trial(
    part: str, setting: Setting, baseline: Setting, found: dict[Setting, Measurement]
) -> Trial:
    ours, base = found[setting], found[baseline]
    return Trial(
        part,
        setting,
        baseline,
        float(ours.jaccard.mean()),
        *mean_interval(ours.jaccard),
        float((ours.jaccard - base.jaccard).mean()),
        *paired_interval(ours.jaccard, base.jaccard),
        ours.threshold_jaccard,
        base.threshold_jaccard,
        int((ours.jaccard < FAILURE_IOU).sum()),
    )


def deal_folds(ids: Sequence[str], groups: Iterable[Sequence[str]], count: int) -> np.ndarray:
    """Return the fold, 0 to ``count`` - 1, of each image; those of a group share one.

    Where all are of one group there would be one fold: then its images are dealt one by one.
    """
    first_of = {member: group[0] for group in groups for member in group}
    units, unit = np.unique([first_of.get(name, name) for name in ids], return_inverse=True)
    if len(units) == 1:
        units, unit = np.unique(ids, return_inverse=True)
    return np.random.default_rng(0).permutation(len(units))[unit] % count
