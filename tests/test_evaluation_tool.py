"""The evaluation tool's submission folder, scored by the official command."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from tiny import ROOT, run_python

from lesion_d2.commands.convert import ConvertOptions, convert


@pytest.fixture(scope="module", params=["original", "data set"])
def evaluation(request, straight_run, tiny_archive, tmp_path_factory):
    """An evaluation of images converted to half their size, at either size, with its folder.

    Data set and run lie in the folder as docs/evaluate.md calls them.
    """
    folder = tmp_path_factory.mktemp("evaluation")
    root = folder / "datasets" / "isic2018"
    convert(ConvertOptions({"all": tiny_archive}, root, resize=48, group=False))
    config = folder / "run.yaml"
    config.write_text(straight_run.trainer.cfg.dump())
    originals = ["TEST.TRUTH_DIR", tiny_archive[1]] if request.param == "original" else []
    status, out, err = run_python(
        ROOT / "tools" / "eval.py", "--eval-only", "--config-file", config,
        "MODEL.WEIGHTS", straight_run.folder / "model_final.pth",
        "OUTPUT_DIR", folder / "output" / "isic_mrcnn",
        "DATASETS.TEST", ("isic2018_test",), *originals,
        DETECTRON2_DATASETS=str(root.parent),
    )  # fmt: skip
    assert status == 0, err
    return folder, out, request.param


def results(folder):
    return folder / "output" / "isic_mrcnn" / "eval" / "isic2018_test"


def test_the_documented_command_gives_the_same_figures(evaluation):
    folder, _, resolution = evaluation
    text = (ROOT / "docs" / "evaluate.md").read_text().replace("\\\n", " ")
    (line,) = (line for line in text.splitlines() if line.startswith("    isic-challenge-scoring "))
    program, *arguments = shlex.split(line)
    command = [Path(sys.executable).with_name(program), "-o", "json", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    official = json.loads(result.stdout)["macro_average"]
    ours = json.loads((results(folder) / "metrics.json").read_text())
    assert ours["num_images"] == len(list((results(folder) / "truth").glob("*.png"))) > 3
    assert ours["resolution"] == resolution
    assert len(official) == 6
    for name, value in official.items():
        # Equal but for the order in which the mean adds up.
        assert ours[f"mean_{name}"] == pytest.approx(value, rel=1e-14)


def test_masks_have_the_size_that_is_said(evaluation, tiny_archive):
    folder, _, resolution = evaluation
    for path in (results(folder) / "truth").glob("*.png"):
        ours, submitted, archive = (
            cv2.imread(str(part / path.name), 0)
            for part in (path.parent, results(folder) / "submission", tiny_archive[1])
        )
        assert ours.shape == submitted.shape
        if resolution == "original":
            assert ((ours > 0) == (archive > 128)).all()
        else:
            assert max(ours.shape) == 48 < max(archive.shape)


def test_the_printed_table_says_what_the_figures_are_of(evaluation):
    folder, out, resolution = evaluation
    metrics = json.loads((results(folder) / "metrics.json").read_text())
    for key in ("split_fingerprint", "weights_sha256"):
        assert metrics[key][:12] in out
    for name in ("jaccard", "threshold_jaccard", "max_iou"):
        for end in ("", "_low", "_high"):
            assert f"{metrics[f'mean_{name}{end}']:.4f}" in out
    size = "originals" if resolution == "original" else "data set's images"
    assert f"at the size of the {size}" in out
    assert ("TEST.TRUTH_DIR" in out) == (resolution == "data set")
    assert f"torch {metrics['versions']['torch']}" in out
    assert (results(folder) / "report.html").is_file()
