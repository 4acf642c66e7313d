"""The U-Net as a Detectron2 model, beside segmentation-models-pytorch's own."""

import sys

import pytest
import timm
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from tiny import differences, train_run

from lesion_d2.errors import LesionError
from lesion_d2.modeling.timm_backbone import write_timm_weights
from lesion_d2.prediction.segmenter import Segmenter

smp = pytest.importorskip("segmentation_models_pytorch")
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script")  # timm, on import

LITE = "tf_efficientnet_lite0"
TIMM = (
    "MODEL.META_ARCHITECTURE", "UNet",
    "MODEL.BACKBONE.NAME", "build_timm_backbone",
    "MODEL.TIMM.NAME", LITE,
)  # fmt: skip
UNET = (
    "MODEL.META_ARCHITECTURE", "UNet",
    "MODEL.BACKBONE.NAME", "build_resnet_backbone",
    "MODEL.RESNETS.DEPTH", 18,
    "MODEL.RESNETS.STEM_OUT_CHANNELS", 64,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
    "MODEL.RESNETS.STRIDE_IN_1X1", False,
    "MODEL.RESNETS.NORM", "BN",
    "SOLVER.OPTIMIZER", "AdamW",
    "SOLVER.BASE_LR", 0.001,
)  # fmt: skip


def sample(height, width, box):
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    top, left, bottom, right = box
    mask[:, top:bottom, left:right] = True
    instances = Instances((height, width), gt_masks=BitMasks(mask))
    return {"image": image, "instances": instances}


@pytest.fixture
def model(tiny_cfg, tmp_path):
    torch.manual_seed(0)
    return build_model(tiny_cfg(tmp_path, *UNET))


def twin(model, encoder):
    """Return segmentation-models-pytorch's network with the weights of ours."""
    net = smp.Unet(encoder, encoder_weights=None)
    net.decoder.load_state_dict(model.decoder.state_dict())
    net.segmentation_head.load_state_dict(model.head.state_dict())
    ours = model.backbone.state_dict()
    if encoder.startswith("tu-"):
        renamed = {key.replace("network.", "model.", 1): value for key, value in ours.items()}
        net.encoder.load_state_dict(renamed)
        return net
    names = {"stem.conv1.norm": "bn1", "stem.conv1": "conv1"}
    names |= {f"res{i + 1}": f"layer{i}" for i in range(1, 5)}
    parts = {"conv1.norm": "bn1", "conv2.norm": "bn2", "shortcut.norm": "downsample.1"}
    parts |= {"shortcut": "downsample.0"}
    state = {}
    for key, value in ours.items():
        for old, new in (names | parts).items():
            key = key.replace(f"{old}.", f"{new}.")
        state[key] = value
    net.encoder.load_state_dict(state)
    return net


@pytest.mark.parametrize(("options", "encoder"), [(UNET, "resnet18"), (TIMM, f"tu-{LITE}")])
def test_it_computes_what_the_library_does(options, encoder, tiny_cfg, tmp_path):
    torch.manual_seed(0)
    model = build_model(tiny_cfg(tmp_path, *options))
    net = twin(model, encoder)
    batch = [sample(64, 96, (10, 20, 40, 60)) for _ in range(2)]
    x = torch.stack([(b["image"] - model.pixel_mean) / model.pixel_std for b in batch])
    model.train()
    net.train()
    bce, dice = model(batch).values()
    logits = net(x)
    truth = torch.stack([b["instances"].gt_masks.tensor for b in batch]).float()
    torch.testing.assert_close(
        bce, torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
    )
    expected = smp.losses.DiceLoss("multilabel", smooth=0.5, eps=0.0)  # it counts it twice
    per_image = [expected(logits[i : i + 1], truth[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(dice, sum(per_image) / 2)
    model.eval()
    net.eval()
    found = torch.stack([item.pred_masks[0] for item in model.inference(batch)])
    torch.testing.assert_close(found, net(x).sigmoid())


def test_images_of_two_sizes_do_not_see_each_others_padding(model):
    model.eval()
    small, large = sample(64, 64, (0, 0, 9, 9)), sample(96, 128, (5, 5, 50, 50))
    pair = model.inference([small, large])
    assert [tuple(item.pred_masks.shape) for item in pair] == [(1, 1, 64, 64), (1, 1, 96, 128)]
    assert [item.pred_boxes.tensor.tolist() for item in pair] == [
        [[0, 0, 64, 64]],
        [[0, 0, 128, 96]],
    ]
    (alone,) = model.inference([large])
    torch.testing.assert_close(pair[1].pred_masks, alone.pred_masks)


def test_the_score_is_the_mean_probability_of_the_lesion_or_the_highest(model):
    model.eval()
    image = sample(64, 64, (0, 0, 9, 9))
    bias = model.head[0].bias
    for shift in (-20.0, 0.0, 20.0):
        torch.nn.init.constant_(bias, shift)
        (found,) = model.inference([image])
        soft = found.pred_masks
        inside = soft[soft >= 0.5]
        expected = inside.mean() if len(inside) else soft.max()
        torch.testing.assert_close(found.scores, expected[None])
        assert (found.scores.item() >= 0.5) == bool(len(inside))


def test_it_trains_in_stages_resumes_and_predicts(tiny_cfg, tmp_path):
    stages = ("SOLVER.ITERS_PER_EPOCH", 2, "SOLVER.STAGES", ((1, 5), (2, 0)),
              "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.CHECKPOINTS_KEPT", 9)  # fmt: skip
    whole = train_run(tiny_cfg(tmp_path / "whole", *UNET, *stages))
    start, middle = whole.start, whole.checkpoint(1)["model"]
    changed = [key for key in start if not torch.equal(start[key], middle[key])]
    assert changed
    assert not [key for key in changed if key.startswith("backbone")]
    assert not torch.equal(
        middle["backbone.stem.conv1.weight"], whole.final()["model"]["backbone.stem.conv1.weight"]
    )

    cut = tmp_path / "cut"
    cut.mkdir()
    for name in ("model_0000001.pth",):
        (cut / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    (cut / "last_checkpoint").write_text("model_0000001.pth")
    again = train_run(tiny_cfg(cut, *UNET, *stages), resume=True)
    assert differences(again.final()["model"], whole.final()["model"]) == []

    model = whole.trainer.model.eval()
    views = ("TEST.VIEWS", ("identity", "horizontal"))
    segmenter = Segmenter(tiny_cfg(tmp_path, *UNET, *views), model)
    item = {**sample(64, 64, (10, 10, 40, 40)), "height": 128, "width": 128}
    with torch.no_grad():
        (output,) = segmenter([item])
    assert output["lesion"].mask.shape == (128, 128)


def test_a_network_without_features_of_stride_2(tiny_cfg, tmp_path):
    with pytest.raises(LesionError, match=r"MODEL\.TIMM\.NAME: convnext_atto .*U-Net needs 2, 4"):
        build_model(tiny_cfg(tmp_path, *TIMM, "MODEL.TIMM.NAME", "convnext_atto"))


def test_the_weights_of_a_timm_network_arrive(tiny_cfg, tmp_path):
    source, weights = tmp_path / "source.pth", tmp_path / "weights.pth"
    torch.save(timm.create_model(LITE).state_dict(), source)
    write_timm_weights(LITE, source, weights)
    options = (*TIMM, "MODEL.WEIGHTS", str(weights), "SOLVER.STAGES", ((1, 5),))
    run = train_run(tiny_cfg(tmp_path / "run", *options, "SOLVER.ITERS_PER_EPOCH", 1))
    given = torch.load(weights, weights_only=True)["model"]
    assert len(given) > 200
    final = run.final()["model"]
    assert all(torch.equal(final[f"backbone.{key}"], value) for key, value in given.items())


def test_without_the_library(tiny_cfg, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(LesionError, match="install it with pip install"):
        build_model(tiny_cfg(tmp_path, *UNET))
