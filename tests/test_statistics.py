"""Summaries of per-image scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion_d2.data.coco import FLIP_ID_STEP
from lesion_d2.evaluation.statistics import mean_interval, means_with_intervals, paired_interval

IOUS = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(np.array)


def slow_interval(values, resamples=10_000):
    rng = np.random.default_rng(99)
    means = sorted(rng.choice(values, len(values)).mean() for _ in range(resamples))
    return means[int(0.025 * resamples)], means[int(0.975 * resamples)]


@pytest.mark.parametrize("size", [2, 30, 649])
def test_the_interval_is_the_percentile_bootstrap(size):
    values = np.random.default_rng(size).beta(8, 2, size)
    width = values.std() / np.sqrt(size)
    assert mean_interval(values) == pytest.approx(slow_interval(values), abs=0.1 * width)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.uniform(size=60)) for _ in range(100)]
    assert 88 <= sum(low <= 0.5 <= high for low, high in intervals) <= 99


def test_the_interval_is_repeatable():
    values = np.random.default_rng(0).uniform(size=50)
    assert mean_interval(values) == mean_interval(values.copy())


@pytest.mark.parametrize("values", [[0.7], [0.7] * 5, [0.0, 0.0], [1.0]])
def test_values_that_do_not_vary(values):
    low, high = mean_interval(np.array(values))
    assert low == high == pytest.approx(values[0])


@given(IOUS)
@settings(max_examples=30, deadline=None)
def test_the_interval_holds_the_mean(values):
    low, high = mean_interval(values)
    tolerance = 1e-9
    assert values.min() - tolerance <= low <= values.mean() + tolerance
    assert values.mean() - tolerance <= high <= values.max() + tolerance


@pytest.fixture
def hard_and_easy():
    """Scores of images that differ much from each other, and the same a little better."""
    rng = np.random.default_rng(5)
    baseline = rng.uniform(0.1, 0.9, 200)
    return baseline, baseline + rng.normal(0.01, 0.02, 200)


def test_the_paired_interval_resamples_images_and_not_scores(hard_and_easy):
    baseline, values = hard_and_easy
    low, high = paired_interval(values, baseline)
    width = (values - baseline).std() / np.sqrt(len(values))
    rng = np.random.default_rng(1)
    means = []
    for _ in range(10_000):
        images = rng.integers(len(values), size=len(values))
        means.append(values[images].mean() - baseline[images].mean())
    assert (low, high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.1 * width)


def test_the_paired_interval_sees_what_two_intervals_do_not(hard_and_easy):
    baseline, values = hard_and_easy
    assert paired_interval(values, baseline)[0] > 0
    assert mean_interval(values)[0] < mean_interval(baseline)[1]


def test_the_paired_interval_turns_over_with_its_arguments(hard_and_easy):
    baseline, values = hard_and_easy
    low, high = paired_interval(values, baseline)
    assert paired_interval(baseline, values) == pytest.approx((-high, -low))


def test_equal_scores_have_no_difference():
    values = np.random.default_rng(0).uniform(size=50)
    assert paired_interval(values, values.copy()) == (0, 0)
    # The pairs need not be alike for the interval to have no width, only their differences.
    assert paired_interval(np.array([0.5, 1.0]), np.array([0.25, 0.75])) == (0.25, 0.25)


def test_the_summary():
    scores = {
        "max_iou": np.array([0.0, 0.65, 0.64999, 0.9, 0.8, 0.0]),
        "dice": np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
        "found": np.array([0, 1, 2, 1, 3, 2]),
    }
    summary = means_with_intervals(scores)
    assert all(type(value) is float for value in summary.values())
    low, high = mean_interval(scores["max_iou"])
    fewest, most = mean_interval(scores["found"])
    assert summary == pytest.approx({
        "mean_max_iou": 2.99999 / 6, "mean_max_iou_low": low, "mean_max_iou_high": high,
        "mean_dice": 0.5, "mean_dice_low": 0.5, "mean_dice_high": 0.5,
        "mean_found": 1.5, "mean_found_low": fewest, "mean_found_high": most,
    })  # fmt: skip


def test_a_column_is_means_with_intervalsd_alike_whatever_stands_beside_it():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(size=(2, 40))
    both = means_with_intervals({"a": first, "b": second})
    assert both == means_with_intervals({"a": first}) | means_with_intervals({"b": second})


def test_the_summary_of_one_image():
    assert means_with_intervals({"dice": np.array([0.7])}) == {
        "mean_dice": 0.7,
        "mean_dice_low": 0.7,
        "mean_dice_high": 0.7,
    }


def test_flipped_copies_are_no_further_images():
    values, ids = np.random.default_rng(0).uniform(size=40), np.arange(100, 140)
    copies = np.concatenate([ids, ids + FLIP_ID_STEP, ids + 2 * FLIP_ID_STEP])
    threefold = np.concatenate([values, values, values])
    assert mean_interval(threefold, copies) == pytest.approx(mean_interval(values))
    assert mean_interval(values, ids) == mean_interval(values)
    wrong = mean_interval(threefold)
    assert wrong[1] - wrong[0] < 0.7 * np.diff(mean_interval(threefold, copies))


def test_copies_that_differ_count_by_their_mean(hard_and_easy):
    baseline, values = hard_and_easy
    ids = np.arange(len(values))
    pairs = np.r_[values, baseline], np.r_[ids, ids + FLIP_ID_STEP]
    summary = means_with_intervals({"dice": pairs[0]}, pairs[1])
    assert summary["mean_dice"] == pytest.approx(pairs[0].mean())
    low, high = mean_interval((values + baseline) / 2)
    assert (summary["mean_dice_low"], summary["mean_dice_high"]) == pytest.approx((low, high))
    zero = np.zeros_like(pairs[0])
    assert paired_interval(pairs[0], zero, pairs[1]) == pytest.approx((low, high))
