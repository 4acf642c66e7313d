"""The model that comes with the package."""

import numpy as np
import pytest
from tiny import ROOT, run_python

from lesion_d2 import LesionPredictor
from lesion_d2.commands.export import export
from lesion_d2.config.load import load_config
from lesion_d2.errors import LesionError
from lesion_d2.prediction.segmenter import load_segmenter
from lesion_d2.synthetic import render


@pytest.fixture(scope="module", params=[[], ["MODEL.DEVICE", "cpu"]], ids=["onnx", "torch"])
def predictor(request):
    return LesionPredictor.pretrained(request.param)


def test_it_outlines_drawn_lesions(predictor):
    ious = []
    for index in range(16):
        image, mask = render(5, index, 384, 512)
        (lesion,) = predictor([image], channels="BGR")
        ious.append((lesion.mask & (mask > 0)).sum() / (lesion.mask | (mask > 0)).sum())
    assert np.mean(ious) > 0.8  # 0.86 when it was made; it never saw a drawn one


def test_it_gives_the_same_digits(predictor):
    image, _ = render(5, 0, 384, 512)
    (lesion,) = predictor([image], channels="BGR")
    assert lesion.score == pytest.approx(0.9968, abs=2e-3)
    assert lesion.area_share == pytest.approx(0.05351, abs=5e-4)
    assert lesion.estimated_iou == pytest.approx(0.8851, abs=5e-3)
    assert lesion.box == pytest.approx((149, 122, 253, 256), abs=2)


def test_it_says_where_it_comes_from(predictor):
    provenance = predictor.provenance
    assert provenance["seed"] == 0
    assert {metrics["dataset"] for metrics in provenance["metrics"]} == {"isic2018_val"}
    assert provenance["metrics"][-1]["second_look"] == 1.75
    assert predictor.settings["weights_sha256"] in (ROOT / "docs" / "model_card.md").read_text()


def test_configs_take_it_by_name(tmp_path):
    predictor = LesionPredictor.pretrained(["MODEL.DEVICE", "cpu"])
    config = str(ROOT / "configs" / "isic_mrcnn_lite.yaml")
    options = ["MODEL.WEIGHTS", "pretrained", "MODEL.DEVICE", "cpu"]
    cfg = load_config(config, options)
    assert load_segmenter(cfg).outliner.confidence is not None
    export(cfg, tmp_path / "again.safetensors")
    again = LesionPredictor.from_bundle(tmp_path / "again.safetensors")
    added = {"bundle_sha256": predictor.settings["weights_sha256"]}
    assert again.provenance == predictor.provenance | added
    image, _ = render(5, 0, 384, 512)
    (first,), (second,) = predictor([image], channels="BGR"), again([image], channels="BGR")
    assert first.estimated_iou == second.estimated_iou
    with pytest.raises(LesionError, match="are not those of the model"):
        load_segmenter(load_config(str(ROOT / "configs" / "demo.yaml"), options))


@pytest.mark.parametrize(
    ("opts", "engine"),
    [
        ([], "ONNX Runtime on the CPU (for a GPU: MODEL.DEVICE cuda)"),
        (["MODEL.DEVICE", "cpu"], "torch on cpu"),
    ],
)
def test_the_tool_uses_it_when_no_model_is_named(opts, engine, photographs, tmp_path):
    status, stdout, stderr = run_python(
        *(ROOT / "tools" / "predict.py", "--input", photographs, "--output", tmp_path / "out"),
        *opts,
    )
    assert status == 0, stderr
    line, _ = stdout.splitlines()
    assert line.startswith("model: the one that comes with lesion_d2")
    assert line.endswith(f"; computed by {engine}")
    assert len(list((tmp_path / "out" / "masks").rglob("*.png"))) == 4
