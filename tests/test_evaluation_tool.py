"""The evaluation tool's submission folder, scored by the official command."""

import json
import subprocess
import sys

import cv2
import pytest
from tiny import ROOT, run_python

from lesion_d2.commands.convert import ConvertOptions, convert


@pytest.fixture(scope="module")
def evaluation(straight_run, tiny_archive, tmp_path_factory):
    """An evaluation, at the originals' size, of images converted to half of it."""
    folder = tmp_path_factory.mktemp("evaluation")
    root = folder / "datasets" / "halved"
    convert(ConvertOptions({"all": tiny_archive}, root, resize=48, group=False))
    config = folder / "run.yaml"
    config.write_text(straight_run.trainer.cfg.dump())
    status, out, err = run_python(
        ROOT / "tools" / "eval.py", "--eval-only", "--config-file", config,
        "MODEL.WEIGHTS", straight_run.folder / "model_final.pth", "OUTPUT_DIR", folder / "run",
        "DATASETS.TEST", ("halved_test",), "TEST.TRUTH_DIR", tiny_archive[1],
        DETECTRON2_DATASETS=str(root.parent),
    )  # fmt: skip
    assert status == 0, err
    return folder / "run" / "eval" / "halved_test", out


def test_the_official_command_gives_the_same_figures(evaluation, tiny_archive):
    folder, _ = evaluation
    masks = sorted((folder / "submission").glob("*.png"))
    for mask in masks:
        ours, archive = (
            cv2.imread(str(path / mask.name), 0) for path in (folder / "truth", tiny_archive[1])
        )
        assert ((ours > 0) == (archive > 128)).all()
    result = subprocess.run(
        [sys.executable, "-m", "isic_challenge_scoring", "-o", "json", "segmentation",
         folder / "truth", folder / "submission"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    official = json.loads(result.stdout)["macro_average"]
    ours = json.loads((folder / "metrics.json").read_text())
    assert ours["num_images"] == len(masks) > 3
    assert ours["resolution"] == "original"
    assert len(official) == 6
    for name, value in official.items():
        # Equal but for the order in which the mean adds up.
        assert ours[f"mean_{name}"] == pytest.approx(value, rel=1e-14)


def test_the_printed_table_says_what_the_figures_are_of(evaluation):
    folder, out = evaluation
    metrics = json.loads((folder / "metrics.json").read_text())
    for key in ("split_fingerprint", "weights_sha256"):
        assert metrics[key][:12] in out
    for name in ("jaccard", "threshold_jaccard", "max_iou"):
        for end in ("", "_low", "_high"):
            assert f"{metrics[f'mean_{name}{end}']:.4f}" in out
    assert "size of the originals" in out
    assert f"torch {metrics['versions']['torch']}" in out
    assert (folder / "report.html").is_file()
