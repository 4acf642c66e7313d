"""A model made faster finds what it found before."""

import copy

import pytest
import torch
from tiny import ROOT, train_run

from lesion_d2.config.load import load_config
from lesion_d2.data.loader import build_test_loader
from lesion_d2.modeling import build_network
from lesion_d2.modeling.precision import computing_in
from lesion_d2.prediction.segmenter import Segmenter, prepare_for_inference


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["demo", "isic_mrcnn", "isic_unet_cpu"])
def test_on_a_device_that_is_not_the_cpu(name, precision):
    cfg = load_config(str(ROOT / "configs" / f"{name}.yaml"), ["MODEL.DEVICE", "cpu"])
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_network(cfg)
    before = {name: type(module) for name, module in model.named_modules()}
    prepare_for_inference(model, precision)
    after = {name: type(module) for name, module in model.named_modules()}
    assert after.items() <= before.items()  # norms leave, nothing comes in
    tensors = [*model.parameters(), *model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


NORMS = ("", "BN", "FrozenBN", "GN", "LN", "SyncBN", "nnSyncBN", "naiveSyncBN")
FOLDED = ("BN", "FrozenBN", "SyncBN", "nnSyncBN", "naiveSyncBN")


def normed_options(norm):
    """A network with that norm wherever Detectron2 has one, as an option of the config."""
    channels = 32  # what GN has groups
    return (
        *("MODEL.RESNETS.NORM", norm, "MODEL.FPN.NORM", norm),
        *("MODEL.ROI_BOX_HEAD.NORM", norm, "MODEL.ROI_MASK_HEAD.NORM", norm),
        *("MODEL.ROI_BOX_HEAD.NUM_CONV", 1, "MODEL.ROI_BOX_HEAD.CONV_DIM", channels),
        *("MODEL.RESNETS.STEM_OUT_CHANNELS", channels, "MODEL.RESNETS.RES2_OUT_CHANNELS", channels),
        *("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.WIDTH_PER_GROUP", channels),
        *("MODEL.FPN.OUT_CHANNELS", channels, "MODEL.ROI_MASK_HEAD.CONV_DIM", channels),
        *("SOLVER.ITERS_PER_EPOCH", 1, "SOLVER.STAGES", ((1, 0),), "SOLVER.BASE_LR", 1e-6),
        *("MODEL.WEIGHTS", "", "SOLVER.WARMUP_ITERS", 0),
    )


@pytest.mark.parametrize("norm", NORMS)
def test_each_norm_of_detectron2_trains_and_is_evaluated(norm, tiny_cfg, tmp_path):
    cfg = tiny_cfg(tmp_path, *normed_options(norm))
    if norm in ("", "FrozenBN"):  # random weights without a norm that adapts overflow
        model = build_network(cfg).eval()
        with torch.no_grad():
            for parameter in model.backbone.parameters():
                parameter *= 0.5
    else:
        model = train_run(cfg).trainer.model.eval()
    after = copy.deepcopy(model)
    prepare_for_inference(after, "float32")
    norms = [module for name, module in after.named_modules() if name.endswith(".norm")]
    assert bool(norms) == (bool(norm) and norm not in FOLDED)
    batch = next(iter(build_test_loader(cfg, "tiny_test")))
    with torch.no_grad():
        images = model.preprocess_image(batch).tensor
        for name, expected in model.backbone(images).items():
            torch.testing.assert_close(after.backbone(images)[name], expected, atol=1e-3, rtol=1e-3)
        for precision in ("float32", "bfloat16"):
            prepare_for_inference(after, precision)
            cfg.TEST.PRECISION = precision
            assert Segmenter(cfg, after)(batch)[0]["lesion"].mask.any() in (True, False)
