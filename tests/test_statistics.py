"""Summaries of per-image scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion_d2.evaluation.statistics import mean_interval, summarise

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


def test_the_summary():
    max_iou = np.array([0.0, 0.65, 0.64999, 0.9, 0.8, 0.0])
    top1_iou = np.array([0.0, 0.65, 0.1, 0.9, 0.7, 0.0])
    instances = np.array([0, 1, 2, 1, 3, 2])
    summary = summarise(max_iou, top1_iou, instances)
    assert all(type(value) is float for value in summary.values())
    low, high = mean_interval(max_iou)
    assert summary == pytest.approx({
        "mean_max_iou": 2.99999 / 6, "mean_max_iou_low": low, "mean_max_iou_high": high,
        # Sorted 0, 0, .64999, .65, .8, .9: positions 1.25, 2.5 and 3.75, linearly.
        "q1_max_iou": 0.64999 / 4, "median_max_iou": 0.649995, "q3_max_iou": 0.65 + 0.75 * 0.15,
        "mean_top1_iou": 2.35 / 6,
        "misses": 1,  # found nothing; an instance beside the lesion is no miss
        "below_065": 3, "num_images": 6,
    })  # fmt: skip
