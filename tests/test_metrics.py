"""The challenge's metrics against the official scorer, the package isic-challenge-scoring."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from isic_challenge_scoring import metrics
from isic_challenge_scoring.confusion import create_binary_confusion_matrix

from lesion_d2.evaluation.metrics import hold_against, score_image
from lesion_d2.images.masks import write_mask
from lesion_d2.images.run_lengths import encode_mask

OFFICIAL = {
    "jaccard": metrics.binary_jaccard,
    "threshold_jaccard": metrics.binary_threshold_jaccard,
    "dice": metrics.binary_dice,
    "sensitivity": metrics.binary_sensitivity,
    "specificity": metrics.binary_specificity,
    "accuracy": metrics.binary_accuracy,
}
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=24)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[hnp.arrays(bool, shape)] * 2))


def scores_of(truth, prediction):
    """The official ones of our scores."""
    scores = score_image(hold_against(encode_mask(truth), encode_mask(prediction)))
    return {name: scores[name] for name in OFFICIAL}


def assert_equal_to_the_scorer(truth, prediction):
    matrix = create_binary_confusion_matrix(truth, prediction)
    expected = {name: float(function(matrix)) for name, function in OFFICIAL.items()}
    ours = scores_of(truth, prediction)
    assert ours == expected  # to the last digit
    assert all(type(value) is float for value in ours.values())


def row(*spans, length=30):
    """A mask of one row with the pixels of each (start, stop) set."""
    mask = np.zeros((1, length), bool)
    for start, stop in spans:
        mask[0, start:stop] = True
    return mask


EMPTY, FULL = np.zeros((6, 5), bool), np.ones((6, 5), bool)
SPOT, CORNER = EMPTY.copy(), EMPTY.copy()
SPOT[2, 3] = CORNER[5, 4] = True
CASES = {
    "empty truth": (EMPTY, SPOT),
    "empty prediction": (SPOT, EMPTY),
    "both empty": (EMPTY, EMPTY),
    "both full": (FULL, FULL),
    "full truth": (FULL, SPOT),
    "full prediction": (SPOT, FULL),
    "full truth, empty prediction": (FULL, EMPTY),
    "empty truth, full prediction": (EMPTY, FULL),
    "the same pixel": (SPOT, SPOT),
    "another pixel": (SPOT, CORNER),
    "complements": (SPOT, ~SPOT),
    "an image of one pixel": (FULL[:1, :1], FULL[:1, :1]),
    "a missed image of one pixel": (FULL[:1, :1], EMPTY[:1, :1]),
    "13/20": (row((0, 20)), row((0, 13))),
    "26/40, both sides wrong": (row((0, 33), length=60), row((7, 40), length=60)),
    "1300/2000": (row((0, 2000), length=2000), row((0, 1300), length=2000)),
    "12/20": (row((0, 20)), row((0, 12))),
    "1299/2000": (row((0, 2000), length=2000), row((0, 1299), length=2000)),
}


@pytest.mark.parametrize(("truth", "prediction"), CASES.values(), ids=CASES.keys())
def test_degenerate_masks(truth, prediction):
    assert_equal_to_the_scorer(truth, prediction)


@pytest.mark.parametrize(
    ("name", "jaccard", "counts"),
    [
        ("13/20", 0.65, True),
        ("26/40, both sides wrong", 0.65, True),
        ("1300/2000", 0.65, True),
        ("1299/2000", 0.6495, False),
        ("both empty", 1.0, True),
        ("empty truth", 0.0, False),
    ],
)
def test_the_threshold_itself_counts(name, jaccard, counts):
    scores = scores_of(*CASES[name])
    assert scores["jaccard"] == jaccard
    assert scores["threshold_jaccard"] == (jaccard if counts else 0.0)


@given(PAIRS)
@settings(max_examples=300, deadline=None)
def test_random_masks(pair):
    assert_equal_to_the_scorer(*pair)


@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_masks_like_predictions(seed, height, width):
    """Two discs over each other, which random pixels hardly ever are."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    centre, radius = rng.uniform((0, 0), (height, width)), rng.uniform(0, max(height, width) / 2)
    truth = np.hypot(rows - centre[0], columns - centre[1]) < radius
    centre, radius = centre + rng.normal(size=2) * radius / 5, radius * rng.uniform(0.7, 1.3)
    assert_equal_to_the_scorer(truth, np.hypot(rows - centre[0], columns - centre[1]) < radius)


@given(PAIRS)
@settings(max_examples=50, deadline=None)
def test_scores_of_views_and_strides(pair):
    truth, prediction = (np.asfortranarray(mask)[::-1] for mask in pair)
    assert_equal_to_the_scorer(truth, prediction)


def test_the_official_command_gives_our_averages(tmp_path):
    rng = np.random.default_rng(0)
    pairs = list(CASES.values())
    for size in ((192, 256), (301, 200), (767, 1022)):
        truth = np.zeros(size, bool)
        truth[size[0] // 5 : size[0] // 2, size[1] // 4 : -size[1] // 4] = True
        pairs += [(truth, np.roll(truth, step, (0, 1))) for step in rng.integers(-40, 40, (3, 2))]
    for number, masks in enumerate(pairs):
        for folder, mask in zip(("truth", "submission"), masks, strict=True):
            write_mask(tmp_path / folder / f"ISIC_{number:07d}_segmentation.png", mask)
    arguments = ("-o", "json", "segmentation", "truth", "submission")
    result = subprocess.run(
        [sys.executable, "-m", "isic_challenge_scoring", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    official = json.loads(result.stdout)

    scores = [scores_of(*masks) for masks in pairs]
    averages = {name: math.fsum(score[name] for score in scores) / len(scores) for name in OFFICIAL}
    # Each image's score is equal to the last digit. Their sum is rounded once here; in the scorer
    # each addition may round by 2**-53 of the sum, in an order that is up to pandas. Both then
    # round the division.
    tolerance = (len(pairs) + 2) * 2.0**-53
    assert official["macro_average"] == pytest.approx(averages, rel=tolerance, abs=0)
    assert official["overall"] == pytest.approx(averages["threshold_jaccard"], rel=tolerance, abs=0)
