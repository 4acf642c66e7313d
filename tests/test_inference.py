"""A model made faster finds what it found before."""

import copy

import pytest
import torch
from detectron2.layers import Conv2d

from lesion_d2.data.loader import build_test_loader
from lesion_d2.prediction.inference import computing_in, prepare_for_inference
from lesion_d2.prediction.segmenter import Segmenter


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.06)])
@torch.no_grad()
def test_it_sees_the_same(precision, tolerance, straight_run):
    before = straight_run.trainer.model.eval()
    after = copy.deepcopy(before)
    prepare_for_inference(after, precision)
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 3, 64, 96), (1, 3, 96, 64), (1, 3, 96, 64), (2, 3, 64, 96)):
        images = torch.randn(shape, generator=generator)
        with computing_in(precision, before):
            old, new = before.backbone(images), after.backbone(images)
        for name, features in old.items():
            assert new[name].dtype == features.dtype
            assert (new[name] - features).norm() < tolerance * features.norm()


@torch.no_grad()
def test_it_finds_the_same(tiny_cfg, straight_run, tmp_path):
    cfg = tiny_cfg(tmp_path)
    before = straight_run.trainer.model.eval()
    after = copy.deepcopy(before)
    prepare_for_inference(after, "float32")
    for batch in build_test_loader(cfg, "tiny_test"):
        old, new = Segmenter(cfg, before)(batch)[0], Segmenter(cfg, after)(batch)[0]
        assert new["lesion"].score == pytest.approx(old["lesion"].score, abs=1e-4)
        assert (new["lesion"].mask == old["lesion"].mask).mean() > 0.999


def test_what_has_changed(straight_run):
    model = copy.deepcopy(straight_run.trainer.model)
    prepare_for_inference(model, "bfloat16")
    assert not any("norm" in name for name in model.state_dict())
    stem = model.backbone.bottom_up.stem.conv1
    assert stem.weight.dtype == stem.bias.dtype == torch.bfloat16
    assert stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.pixel_mean.dtype == torch.float32
    if torch.backends.mkldnn.is_available():
        assert not any(type(module) is Conv2d for module in model.modules())
