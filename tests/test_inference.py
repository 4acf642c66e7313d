"""A model made faster finds what it found before."""

import copy

import pytest
import torch

from lesion_d2.data.loader import build_test_loader
from lesion_d2.prediction.inference import prepare_for_inference
from lesion_d2.prediction.segmenter import Segmenter


@pytest.fixture(scope="module")
def cfg(tiny_cfg, tmp_path_factory):
    return tiny_cfg(tmp_path_factory.mktemp("inference"))


@pytest.mark.parametrize(
    ("precision", "tolerance", "same"), [("float32", 1e-4, 0.9999), ("bfloat16", 0.05, 0.9)]
)
@torch.no_grad()
def test_it_finds_the_same(precision, tolerance, same, cfg, straight_run):
    before = straight_run.trainer.model.eval()
    after = copy.deepcopy(before)
    prepare_for_inference(after, precision)
    chosen = cfg.clone()
    chosen.TEST.PRECISION = precision
    for batch in build_test_loader(cfg, "tiny_test"):
        old, new = Segmenter(chosen, before)(batch)[0], Segmenter(chosen, after)(batch)[0]
        assert new["lesion"].score == pytest.approx(old["lesion"].score, abs=tolerance)
        assert (new["lesion"].mask == old["lesion"].mask).mean() >= same


def test_what_has_changed(straight_run):
    model = copy.deepcopy(straight_run.trainer.model)
    prepare_for_inference(model, "bfloat16")
    assert not any("norm" in name for name in model.state_dict())
    stem = model.backbone.bottom_up.stem.conv1
    assert stem.weight.dtype == stem.bias.dtype == torch.bfloat16
    assert stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.pixel_mean.dtype == torch.float32
