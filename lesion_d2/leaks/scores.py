"""The scores of images with a twin in training beside those of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from lesion_d2.data.converted import FLIP_ID_STEP
from lesion_d2.errors import LesionError
from lesion_d2.leaks.search import Place, PlacedImage
from lesion_d2.results.evaluation import read_evaluation

# Columns of per_image.csv; an evaluation without the second one is compared by the first.
MEASURES = ("max_iou", "jaccard")


@dataclass(frozen=True)
class Scores:
    """The scores of the N images of one split that were evaluated.

    Attributes:
        place: the split.
        image_ids: shape (N,), without flipped copies of images.
        by_measure: for each measure the scores in [0, 1], shape (N,).
    """

    place: Place
    image_ids: np.ndarray
    by_measure: dict[str, np.ndarray]


def read_scores(eval_dir: Path, images: Sequence[PlacedImage]) -> Scores:
    """Read an evaluation of a split of ``images``.

    Args:
        eval_dir: the folder that ``tools/eval.py`` wrote.
        images: of all splits; the first one's data set is that of the training.

    Raises:
        LesionError: a file is missing or broken, or the evaluation is of something else than
            these images, or of the training split.
    """
    evaluation = read_evaluation(eval_dir, keys=("dataset",))
    name, table = evaluation.summary["dataset"], evaluation.table
    ids: dict[Place, list[int]] = {}
    for placed in images:
        ids.setdefault(placed.place, []).append(placed.image.image_id)
    place = next((place for place in ids if str(place) == name), None)
    if place is None:
        raise LesionError(
            f"{eval_dir}: an evaluation of {name}, which is none of {', '.join(map(str, ids))}; "
            "name the data set that was evaluated"
        )
    if place == training_split(images):
        raise LesionError(
            f"{eval_dir}: an evaluation of {name}, the training split itself; give one of "
            "another split"
        )
    unknown = np.setdiff1d(table["image_id"] % FLIP_ID_STEP, ids[place])
    if len(unknown):
        raise LesionError(
            f"{eval_dir}: image {unknown[0]} is not in the data set's {place.split} split; name "
            "the data set that was evaluated"
        )
    own = np.isin(table["image_id"], ids[place])
    by_measure = {measure: table[measure][own] for measure in MEASURES if measure in table}
    return Scores(place, table["image_id"][own], by_measure)


def training_split(images: Sequence[PlacedImage]) -> Place:
    """Return the training split of the first image's data set."""
    return Place(images[0].place.dataset, "train")


def compare_scores(scores: Scores, with_twin: set[int]) -> dict[str, Any]:
    """Compare the images whose id is in ``with_twin`` with the others.

    Returns:
        plain values for a JSON file: both counts, and for each measure the two means, their
        difference and its 95 % bootstrap interval (10,000 resamples), or None where one side has
        less than two images.
    """
    leaked = np.isin(scores.image_ids, list(with_twin))
    counts = {"with_twin": int(leaked.sum()), "without_twin": int((~leaked).sum())}
    result: dict[str, Any] = {"dataset": str(scores.place), **counts}
    for measure, values in scores.by_measure.items():
        result[measure] = None
        if min(counts.values()) >= 2:
            inside, outside = values[leaked], values[~leaked]
            # Percentile method; the two sides are other images and are resampled apart.
            low, high = bootstrap(
                (inside, outside),
                lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
                n_resamples=10_000,
                batch=500,
                method="percentile",
                rng=np.random.default_rng(0),
            ).confidence_interval
            result[measure] = {
                "mean_with_twin": float(inside.mean()),
                "mean_without_twin": float(outside.mean()),
                "difference": float(inside.mean() - outside.mean()),
                "difference_low": float(low),
                "difference_high": float(high),
            }
    return result
