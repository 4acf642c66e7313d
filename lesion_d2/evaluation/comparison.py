"""Evaluations of the same images, compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from lesion_d2.errors import LesionError
from lesion_d2.evaluation.evaluation import Evaluation
from lesion_d2.evaluation.official import SCORES
from lesion_d2.evaluation.statistics import FAILURE_IOU, paired_interval, summarise

# What two evaluations must share: with another value it is another measurement.
CONDITIONS = ("split_fingerprint", "score_threshold", "resolution")
# What may differ: the things to compare.
SETTINGS = (
    *("dataset", "fingerprint", "weights", "weights_sha256", "seed", "min_size_test", "precision"),
    *("views", "view_scales", "instance_choice", "postprocessing", "mask_threshold"),
)
# Columns of 0 and 1 made here; their means are shares of the images, the lower the better.
SHARES = MISSED, FAILED = "missed", "submitted_below_065"


@dataclass(frozen=True)
class Row:
    """One metric of one run; a line of ``compare.csv``.

    Attributes:
        run: number of the run, from 1, the baseline.
        metric: one of :data:`SCORES` or :data:`SHARES`.
        images: how many the figures are of.
        mean: over the images.
        low: low end of the mean's 95 % bootstrap interval.
        high: high end.
        difference: mean of the run minus the baseline's; for the baseline, like what follows, None.
        difference_low: low end of its paired 95 % bootstrap interval.
        difference_high: high end.
        better: how many images the run is better at than the baseline.
        worse: likewise.
        equal: likewise.
    """

    run: int
    metric: str
    images: int
    mean: float
    low: float
    high: float
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    better: int | None = None
    worse: int | None = None
    equal: int | None = None


@dataclass(frozen=True)
class Change:
    """An image that changed much; a line of ``changed.csv``.

    Attributes:
        run: number of the run that is compared with the baseline.
        change: ``gain`` or ``loss``.
        image_id: the number in the COCO file.
        isic_id: such as ``ISIC_0000000``.
        baseline: score of the baseline.
        value: score of the run.
        difference: ``value`` minus ``baseline``.
    """

    run: int
    change: str
    image_id: int
    isic_id: str
    baseline: float
    value: float
    difference: float


@dataclass(frozen=True)
class Comparison:
    """Evaluations, and their scores of the images they share.

    Attributes:
        evaluations: the first is the baseline.
        image_ids: of the N shared images, rising.
        isic_ids: likewise.
        scores: for each evaluation the columns of shape (N,): the metrics that all of them have,
            then :data:`MISSED` and, if there are submitted masks, :data:`FAILED`.
        problems: why the evaluations are not comparable; empty unless forced.
    """

    evaluations: list[Evaluation]
    image_ids: np.ndarray
    isic_ids: np.ndarray
    scores: list[dict[str, np.ndarray]]
    problems: list[str]


def compare(evaluations: Sequence[Evaluation], force: bool = False) -> Comparison:
    """Check that evaluations are comparable, and select what they share.

    Args:
        evaluations: two or more; the first is the baseline.
        force: go on with the shared images and metrics where they are not comparable.

    Raises:
        LesionError: no image is shared, or the evaluations are of different splits, metrics or
            resolutions and not ``force``.
    """
    first, *others = evaluations
    problems = [problem for other in others for problem in _problems(first, other)]
    if problems and not force:
        raise LesionError(
            f"not comparable: {'; '.join(problems)}; evaluate all runs alike with tools/eval.py, "
            "or add --force to compare the images and metrics they share"
        )
    image_ids = reduce(np.intersect1d, [item.table["image_id"] for item in evaluations])
    if not len(image_ids):
        raise LesionError(
            f"{', '.join(str(item.folder) for item in evaluations)}: no image is in all of them; "
            "name evaluations of the same split"
        )
    metrics = [name for name in SCORES if all(name in item.table for item in evaluations)]
    tables = [_select(item.table, image_ids) for item in evaluations]
    scores = [_scores(table, metrics) for table in tables]
    return Comparison(list(evaluations), image_ids, tables[0]["isic_id"], scores, problems)


def compare_rows(comparison: Comparison) -> list[Row]:
    """Return every metric of every run, with the difference to the baseline."""
    rows = []
    for run, scores in enumerate(comparison.scores, 1):
        summary = summarise(scores)
        for metric, values in scores.items():
            figures: dict[str, Any] = {
                "mean": summary[f"mean_{metric}"],
                "low": summary[f"mean_{metric}_low"],
                "high": summary[f"mean_{metric}_high"],
            }
            if run > 1:
                figures |= _difference(metric, values, comparison.scores[0][metric])
            rows.append(Row(run, metric, len(values), **figures))
    return rows


def changed_most(comparison: Comparison, metric: str, count: int) -> list[Change]:
    """Return for each run up to ``count`` gains, then as many losses, the largest first.

    Raises:
        LesionError: not every evaluation has the metric.
    """
    baseline = comparison.scores[0]
    if metric not in baseline:
        raise LesionError(
            f"--metric {metric}: not in every evaluation; choose from "
            f"{', '.join(name for name in SCORES if name in baseline)} or evaluate all runs alike"
        )
    changes = []
    for run, scores in enumerate(comparison.scores[1:], 2):
        difference = scores[metric] - baseline[metric]
        for name, gain in (("gain", difference), ("loss", -difference)):
            changes += [
                Change(
                    run,
                    name,
                    int(comparison.image_ids[index]),
                    str(comparison.isic_ids[index]),
                    float(baseline[metric][index]),
                    float(scores[metric][index]),
                    float(difference[index]),
                )
                for index in np.argsort(-gain, kind="stable")[:count]
                if gain[index] > 0
            ]
    return changes


def settings_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return what an evaluation was made with; None for what its ``metrics.json`` lacks."""
    summary = evaluation.summary
    versions = summary.get("versions") or {}
    return {
        **{key: summary.get(key) for key in (*CONDITIONS, *SETTINGS)},
        **{f"version of {name}": version for name, version in versions.items()},
    }


def show(value: Any) -> str:
    """Return a setting as text; of a SHA-256 its beginning."""
    if value is None:
        return "not stated"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def _problems(first: Evaluation, other: Evaluation) -> list[str]:
    """Return what makes two evaluations not comparable, with both values and both folders."""
    problems = []
    for key in CONDITIONS:
        ours, theirs = first.summary.get(key), other.summary.get(key)
        if ours != theirs or ours is None:
            problems.append(
                f"{key} is {show(ours)} in {first.folder} and {show(theirs)} in {other.folder}"
            )
    ids, other_ids = first.table["image_id"], other.table["image_id"]
    if len(np.setxor1d(ids, other_ids)):
        problems.append(
            f"image ids are {len(ids):,} in {first.folder} and {len(other_ids):,} in "
            f"{other.folder}, {len(np.intersect1d(ids, other_ids)):,} of them in both"
        )
    for one, two in ((first, other), (other, first)):
        if only := [name for name in SCORES if name in one.table and name not in two.table]:
            problems.append(f"{', '.join(only)}: in {one.folder} and not in {two.folder}")
    return problems


def _select(table: Mapping[str, np.ndarray], image_ids: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of ``image_ids``, which are all in the table, in their order."""
    order = np.argsort(table["image_id"])
    places = order[np.searchsorted(table["image_id"][order], image_ids)]
    return {name: column[places] for name, column in table.items()}


def _scores(table: Mapping[str, np.ndarray], metrics: Sequence[str]) -> dict[str, np.ndarray]:
    scores = {name: table[name] for name in metrics}
    scores[MISSED] = (table["num_instances"] == 0).astype(float)
    if "jaccard" in metrics:
        scores[FAILED] = (table["jaccard"] < FAILURE_IOU).astype(float)
    return scores


def _difference(metric: str, values: np.ndarray, baseline: np.ndarray) -> dict[str, float]:
    """Return the fields of :class:`Row` from ``difference`` on."""
    low, high = paired_interval(values, baseline)
    difference = values - baseline
    gain = -difference if metric in SHARES else difference
    return {
        "difference": float(np.mean(difference)),
        "difference_low": low,
        "difference_high": high,
        "better": int(np.sum(gain > 0)),
        "worse": int(np.sum(gain < 0)),
        "equal": int(np.sum(gain == 0)),
    }
