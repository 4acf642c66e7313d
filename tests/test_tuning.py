"""Choosing settings of prediction on validation data."""

import csv
import re

import numpy as np
import pytest
import torch
from tiny import ROOT, run_python

from lesion_d2.commands.tune import tune
from lesion_d2.config.defaults import get_lesion_cfg
from lesion_d2.config.load import load_config
from lesion_d2.data.loader import build_test_loader
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.lesion_evaluator import LesionEvaluator
from lesion_d2.evaluation.tuning import (
    LEVELS,
    ONE_REGION,
    PLAIN,
    VIEW_SETS,
    Measurement,
    Setting,
    deal_folds,
    measure,
    select,
)
from lesion_d2.prediction.candidates import INSTANCE_CHOICES
from lesion_d2.prediction.confidence import feature_row, read_confidence
from lesion_d2.prediction.segmenter import Segmenter, TorchNetwork

ALL = [Setting(v, c, s) for v in VIEW_SETS for c in INSTANCE_CHOICES for s in LEVELS]
TRIED = [
    PLAIN,
    Setting("flips and quarter turns", "consensus", ONE_REGION),
    Setting("three scales", "top_score", ONE_REGION),
    Setting("flips", "consensus", LEVELS[3]),
    Setting("second look", "top_score", ONE_REGION),
]


@pytest.fixture(scope="module")
def model(straight_run):
    return straight_run.trainer.model.eval()


@pytest.fixture(scope="module")
def batches(tiny_cfg, tmp_path_factory):
    return list(build_test_loader(tiny_cfg(tmp_path_factory.mktemp("tuning")), "tiny_val"))


@pytest.fixture(scope="module")
def measurements(model, batches):
    return measure(TorchNetwork(model), batches, TRIED)


@pytest.mark.parametrize("setting", TRIED)
def test_a_setting_is_worth_what_the_evaluation_says(
    measurements, model, batches, tiny_cfg, tmp_path, setting
):
    cfg = tiny_cfg(tmp_path)
    for key, value in setting.options().items():
        cfg.TEST[key] = value
    segmenter, evaluator = Segmenter(cfg, model).eval(), LesionEvaluator(0.5)
    features = []
    for batch in batches:
        with torch.no_grad():
            outputs = segmenter(batch)
        evaluator.process(batch, outputs)
        features += [feature_row(output["lesion"]) for output in outputs]
    evaluator.evaluate()
    measured = measurements[setting]
    np.testing.assert_allclose(sorted(measured.jaccard), sorted(evaluator.table["jaccard"]))
    np.testing.assert_allclose(measured.features, features, rtol=1e-5)


def invented(gains, noise=0.01):
    """Measure settings of which each part adds a gain of its own to random scores."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 0.8, 300)
    jaccard = {}
    for setting in ALL:
        gain = sum(gains.get(part, 0.0) for part in setting)
        jaccard[setting] = base + gain + rng.normal(0, noise, 300)
    return measure_by(jaccard)


def measure_by(jaccard):
    """Function (settings) -> measurements, that are looked up, and only once."""
    asked = []

    def measure(settings):
        asked.extend(settings)
        assert len(asked) <= len(VIEW_SETS) * len(INSTANCE_CHOICES) + len(LEVELS)
        return {s: Measurement(jaccard[s], np.zeros((300, 6))) for s in settings}

    return measure


def test_what_earns_it_is_taken():
    level = ("threshold:0.4", *ONE_REGION[1:])
    gains = {"flips": 0.05, "horizontal flip": 0.02, "consensus": 0.03, level: 0.04}
    chosen, _, rows = select(invented(gains))
    assert chosen == Setting("flips", "consensus", level)
    (row,) = [row for row in rows if row.part == "views" and row.setting.views == "flips"]
    assert row.gain == pytest.approx(0.05, abs=0.003)
    assert row.gain_low < row.gain < row.gain_high
    assert row.low < row.mean < row.high


def test_what_does_not_is_left():
    chosen, measured, _ = select(invented({"flips": -0.01, "consensus": -0.2}))
    assert 0.5 < measured.jaccard.mean() < 0.8
    assert chosen == PLAIN


def test_a_gain_that_may_be_chance_is_not_enough():
    chosen, _, rows = select(invented({"flips": 0.002}, noise=0.1))
    assert chosen.views == "identity"
    assert any(row.gain > 0 for row in rows)


def test_a_higher_mean_with_more_failures_is_not_taken():
    base = np.r_[np.full(30, 0.66), np.full(270, 0.9)]
    flips = np.r_[np.full(30, 0.64), np.full(270, 0.91)]
    jaccard = {setting: flips if setting.views == "flips" else base for setting in ALL}
    chosen, _, rows = select(measure_by(jaccard))
    (row,) = [row for row in rows if row.part == "views" and row.setting.views == "flips"]
    assert row.gain_low > 0
    assert row.threshold_jaccard == pytest.approx(0.9 * 0.91)
    assert row.baseline_threshold_jaccard == pytest.approx(0.9 * 0.9 + 0.1 * 0.66)
    assert chosen.views == "identity"


def test_every_setting_is_one_that_the_config_takes(model):
    cfg = get_lesion_cfg()
    for setting in ALL:
        for key, value in setting.options().items():
            cfg.TEST[key] = value
        Segmenter(cfg, model)


def test_images_of_a_group_share_a_fold():
    ids = [f"i{number}" for number in range(100)]
    groups = [ids[start : start + 4] for start in range(0, 40, 4)]
    folds = deal_folds(ids, groups, 5)
    assert all(len({folds[ids.index(name)] for name in group}) == 1 for group in groups)
    sizes = np.bincount(folds[40:], minlength=5)
    assert len(sizes) == 5
    assert sizes.min() > 0
    np.testing.assert_array_equal(folds, deal_folds(ids, groups, 5))
    assert len(set(deal_folds(ids, [ids], 5))) == 5


def test_what_a_tuning_needs_is_checked_first(straight_run, tiny_root, tmp_path, monkeypatch):
    monkeypatch.setattr("lesion_d2.commands.tune.load_segmenter", None)
    (tmp_path / "file").touch()
    for opts, message in (
        (("OUTPUT_DIR", tmp_path / "file"), "OUTPUT_DIR: .*file: cannot be written to"),
        (("TEST.TRUTH_DIR", tmp_path), r"_segmentation\.png: cannot be used"),
        (("MODEL.WEIGHTS", tmp_path / "none.pth"), r"none\.pth: no such file"),
    ):
        cfg = straight_run.trainer.cfg.clone()
        cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path), *map(str, opts)])
        with pytest.raises(LesionError, match=message):
            tune(cfg)


def test_the_tool(straight_run, tiny_root, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(straight_run.trainer.cfg.dump())
    weights = straight_run.folder / "model_final.pth"
    environment = {"DETECTRON2_DATASETS": str(tiny_root.parent)}
    status, out, err = run_python(
        ROOT / "tools" / "tune.py", "--config-file", config,
        "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path / "run", **environment,
    )  # fmt: skip
    assert status == 0, err
    assert "chosen: " in out
    assert re.search(r"sure: \d+ images.*\nlook again: \d+ images.*\nunsure: \d+ images", out)
    folder = tmp_path / "run" / "tune"
    with open(folder / "tuning.csv", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert {row["part"] for row in table} == {"views", "choice", "level"}
    confidence = read_confidence(folder / "confidence.json")
    assert confidence.fitted_on["dataset"] == "tiny_val"
    cfg = load_config(str(folder / "config.yaml"), [])
    assert str(folder / "confidence.json") == cfg.TEST.CONFIDENCE
    assert str(weights) == cfg.MODEL.WEIGHTS
    assert str(tmp_path / "run") == cfg.OUTPUT_DIR

    status, out, err = run_python(
        ROOT / "tools" / "eval.py", "--eval-only", "--config-file", folder / "config.yaml",
        **environment,
    )  # fmt: skip
    assert status == 0, err
    assert "Threshold Jaccard" in out
