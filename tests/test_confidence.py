"""The estimate of the IoU, and how well it finds failures."""

import json

import numpy as np
import pytest

from lesion_d2.errors import LesionError
from lesion_d2.evaluation.failure_detection import failure_detection
from lesion_d2.files import write_json
from lesion_d2.prediction.confidence import (
    FEATURES,
    ConfidenceModel,
    fit_confidence,
    read_confidence,
    word_for,
)
from lesion_d2.prediction.lesion import Lesion


def lesion(**features):
    values = dict.fromkeys(FEATURES, 0.0) | features
    return Lesion(np.ones((2, 2), bool), **values)


@pytest.fixture
def data():
    """Features of 400 images and IoUs that follow from two of them, with noise."""
    rng = np.random.default_rng(0)
    features = rng.uniform(size=(400, len(FEATURES)))
    jaccard = 0.3 + 0.4 * features[:, 1] + 0.1 * features[:, 0] + rng.normal(0, 0.01, 400)
    return features, jaccard


def test_a_linear_truth_is_recovered(data):
    model = fit_confidence(*data, {})
    expected = [0.1, 0.4, 0, 0, 0, 0]
    assert model.weights == pytest.approx(expected, abs=0.01)
    assert model.intercept == pytest.approx(0.3, abs=0.01)
    assert model(lesion(score=0.5, sharpness=0.5, area_share=0.1)) == pytest.approx(0.55, abs=0.01)


def test_a_feature_that_never_varies_gets_no_weight(data):
    features, jaccard = data
    features[:, 2] = 1.0  # agreement, when there is one view only
    model = fit_confidence(features, jaccard, {})
    assert model.weights[2] == 0
    assert np.isfinite(model.weights).all()


def test_estimates_stay_between_0_and_1():
    model = ConfidenceModel([10.0, 0, 0, 0, 0, 0], -1.0, {})
    assert model(lesion(score=1.0, area_share=0.1)) == 1
    assert model(lesion(score=0.0, area_share=0.1)) == 0


def test_an_empty_mask_is_estimated_0():
    assert ConfidenceModel([0.0] * 6, 0.9, {})(lesion(area_share=0.0)) == 0


def test_written_and_read_again(data, tmp_path):
    model = fit_confidence(*data, {"dataset": "tiny_val"})
    write_json(tmp_path / "confidence.json", model.to_dict())
    assert read_confidence(tmp_path / "confidence.json") == model


GOOD = ConfidenceModel([0.0] * 6, 0.9, {}).to_dict()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{",
        json.dumps(GOOD | {"features": ["score"]}),
        json.dumps(GOOD | {"weights": [0.0] * 5}),
        json.dumps(GOOD | {"weights": ["x"] * 6}),
        json.dumps(GOOD | {"intercept": float("nan")}),
        json.dumps({key: value for key, value in GOOD.items() if key != "intercept"}),
    ],
)
def test_files_that_are_no_confidence_model(text, tmp_path):
    path = tmp_path / "confidence.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LesionError, match=r"confidence\.json.*tools/tune\.py"):
        read_confidence(path)


def slow_auroc(estimated, failed):
    pairs = [(bad, good) for bad in estimated[failed] for good in estimated[~failed]]
    return np.mean([1.0 if bad < good else 0.5 if bad == good else 0.0 for bad, good in pairs])


def test_failure_detection():
    rng = np.random.default_rng(1)
    jaccard = rng.uniform(0.4, 1, 60)
    estimated = np.round(jaccard + rng.normal(0, 0.15, 60), 1)  # with ties
    found = failure_detection(estimated, jaccard)
    failed = jaccard < 0.65
    assert found["failures"] == failed.sum()
    assert found["auroc"] == pytest.approx(slow_auroc(estimated, failed))
    assert found["mean_absolute_error"] == pytest.approx(np.abs(estimated - jaccard).mean())


def test_the_tenth_that_is_reviewed():
    jaccard = np.r_[[0.2, 0.3, 0.5], np.full(17, 0.9)]
    estimated = np.r_[[0.1, 0.8, 0.2], np.full(17, 0.7)]
    assert failure_detection(estimated, jaccard)["caught_at_10_percent"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("jaccard", [[0.9, 0.8], [0.1, 0.2]])
def test_only_failures_or_none(jaccard):
    found = failure_detection(np.array([0.5, 0.6]), np.array(jaccard))
    assert found["auroc"] is None
    assert found["caught_at_10_percent"] is None


@pytest.mark.parametrize(
    ("estimated", "word"),
    [(1, "sure"), (0.85, "sure"), (0.8499, "look again"), (0.68, "look again"), (0.6799, "unsure"),
     (0, "unsure"), (None, None)],
)  # fmt: skip
def test_an_estimate_has_a_word(estimated, word):
    assert word_for(estimated) == word
