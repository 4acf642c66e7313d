"""Evaluations of the same images, compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from lesion_d2.data.coco import FLIP_ID_STEP
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.metrics import COUNTS, MEASURES, METRICS
from lesion_d2.evaluation.scores import Evaluation
from lesion_d2.evaluation.statistics import means_with_intervals, paired_interval

# What two evaluations must share: with another value it is another measurement.
CONDITIONS = ("split_fingerprint", "score_threshold", "resolution")
# What may differ: the things to compare.
SETTINGS = (
    *("dataset", "input_fingerprint", "weights", "weights_sha256", "seed", "min_size_test"),
    *("max_size_test", "precision", "views", "view_scales", "second_look", "instance_choice"),
    *("postprocessing", "instance_score_threshold", "instance_nms_threshold"),
    *("instances_per_image", "proposals_before_nms", "proposals_after_nms", "mask_threshold"),
)
Row = dict[str, Any]
ROW_FIELDS = (
    *("run", "metric", "images", "mean", "low", "high"),
    *("difference", "difference_low", "difference_high", "better", "worse", "equal"),
)
CHANGE_FIELDS = ("run", "change", "image_id", "isic_id", "baseline", "value", "difference")


@dataclass(frozen=True)
class Comparison:
    """Evaluations, and their scores of the images they share.

    Attributes:
        evaluations: the first is the baseline.
        image_ids: of the N shared images, in the baseline.
        scores: for each evaluation the columns of shape (N,) that all of them have: scores of
            :data:`METRICS`, then 0 and 1 of :data:`COUNTS`, whose means are shares of the images.
        problems: why the evaluations are not comparable; empty unless forced.
        rows: every metric of every run, lines of ``compare.csv`` by :data:`ROW_FIELDS`. ``run``
            counts from 1, the baseline. ``low`` and ``high`` are the ends of the mean's 95 %
            bootstrap interval; ``difference`` is the mean minus the baseline's, its interval a
            paired one; ``better``, ``worse`` and ``equal`` are numbers of images. The baseline has
            None there.
        changes: lines of ``changed.csv`` by :data:`CHANGE_FIELDS`: for each run the largest gains,
            then the largest losses of one metric, with the two scores of the image.
    """

    evaluations: list[Evaluation]
    image_ids: np.ndarray
    scores: list[dict[str, np.ndarray]]
    problems: list[str]
    rows: list[Row]
    changes: list[Row]


def compare(
    evaluations: Sequence[Evaluation], metric: str, count: int, force: bool = False
) -> Comparison:
    """Check that evaluations, two or more, are comparable, and select what they share.

    The first is the baseline. ``count`` gains and losses of a metric are listed. With ``force`` it
    goes on with the shared images and metrics where they are not comparable.

    Raises:
        LesionError: no image is shared, or the evaluations are of different splits, metrics or
            resolutions and not ``force``, or not all of them have ``metric``.
    """
    first, *others = evaluations
    problems = [problem for other in others for problem in _problems(first, other)]
    if problems and not force:
        raise LesionError(
            f"not comparable: {'; '.join(problems)}; evaluate all runs alike with tools/eval.py, "
            "or add --force to compare the images and metrics they share"
        )
    shared = reduce(np.intersect1d, [_names(item) for item in evaluations])
    if not len(shared):
        raise LesionError(
            f"{', '.join(str(item.folder) for item in evaluations)}: no image is in all of them; "
            "name evaluations of the same split"
        )
    columns = set.intersection(*(set(item.table) for item in evaluations))
    tables = [_select(item, shared) for item in evaluations]
    image_ids = tables[0]["image_id"]
    scores = [
        {name: table[name] for name in METRICS if name in columns}
        | {
            name: count.wrong(table[count.column]).astype(float)
            for name, count in COUNTS.items()
            if count.column in columns
        }
        for table in tables
    ]
    if metric not in scores[0]:
        raise LesionError(
            f"--metric {metric}: not in every evaluation; choose from "
            f"{', '.join(name for name in METRICS if name in columns)} or evaluate all runs alike"
        )
    rows = _rows(scores, image_ids)
    changes = _changes([table[metric] for table in tables], metric, count, tables[0])
    return Comparison(list(evaluations), image_ids, scores, problems, rows, changes)


def _rows(runs: Sequence[Mapping[str, np.ndarray]], ids: np.ndarray) -> list[Row]:
    rows = []
    for run, scores in enumerate(runs, 1):
        means = means_with_intervals(scores, ids)
        for metric, values in scores.items():
            mean = [means[f"mean_{metric}{end}"] for end in ("", "_low", "_high")]
            baseline = runs[0][metric]
            difference = values - baseline
            gain = np.sign(-difference if MEASURES[metric].lower_is_better else difference)
            against = (
                float(difference.mean()),
                *paired_interval(values, baseline, ids),
                *(int(np.sum(gain == sign)) for sign in (1, -1, 0)),
            )
            cells = (run, metric, len(ids), *mean, *(against if run > 1 else [None] * 6))
            rows.append(dict(zip(ROW_FIELDS, cells, strict=True)))
    return rows


def _changes(
    runs: Sequence[np.ndarray], metric: str, count: int, images: Mapping[str, np.ndarray]
) -> list[Row]:
    changes = []
    for run, values in enumerate(runs[1:], 2):
        difference = values - runs[0]
        columns = (images["image_id"], images["isic_id"], runs[0], values, difference)
        gains = -difference if METRICS[metric].lower_is_better else difference
        for change, gain in (("gain", gains), ("loss", -gains)):
            changes += [
                (run, change, *(column[index].item() for column in columns))
                for index in np.argsort(-gain, kind="stable")[:count]
                if gain[index] > 0
            ]
    return [dict(zip(CHANGE_FIELDS, cells, strict=True)) for cells in changes]


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
            ours, theirs = show(ours), show(theirs)
            problems.append(f"{key} is {ours} in {first.folder} and {theirs} in {other.folder}")
    names, other_names = _names(first), _names(other)
    if len(np.setxor1d(names, other_names)):
        problems.append(
            f"images are {len(names):,} in {first.folder} and {len(other_names):,} in "
            f"{other.folder}, {len(np.intersect1d(names, other_names)):,} of them in both"
        )
    for one, two in ((first, other), (other, first)):
        if only := [name for name in METRICS if name in one.table and name not in two.table]:
            problems.append(f"{', '.join(only)}: in {one.folder} and not in {two.folder}")
    return problems


def _names(evaluation: Evaluation) -> np.ndarray:
    """Return what images are matched by: two data sets may number theirs in two ways."""
    table = evaluation.table
    pairs = zip(table["image_id"] // FLIP_ID_STEP, table["isic_id"], strict=True)
    return np.array([f"{isic_id} {flip}" for flip, isic_id in pairs])


def _select(evaluation: Evaluation, names: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of images that are all in the table, in their order."""
    own = _names(evaluation)
    order = np.argsort(own)
    places = order[np.searchsorted(own[order], names)]
    return {name: column[places] for name, column in evaluation.table.items()}
