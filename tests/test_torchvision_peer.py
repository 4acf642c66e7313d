"""torchvision's Mask R-CNN as a Detectron2 model, beside the library's own."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from test_unet import sample
from tiny import train_run
from torchvision.models.detection import maskrcnn_resnet50_fpn

from lesion_d2.prediction.segmenter import Segmenter

PEER = (
    "MODEL.META_ARCHITECTURE", "TorchvisionMaskRCNN",
    "MODEL.BACKBONE.NAME", "build_resnet_backbone",
    "MODEL.RESNETS.OUT_FEATURES", ("res2", "res3", "res4", "res5"),
    "MODEL.RESNETS.NORM", "BN",
    "SOLVER.OPTIMIZER", "AdamW",
    "SOLVER.BASE_LR", 0.001,
    "SOLVER.ITERS_PER_EPOCH", 1,
    "SOLVER.STAGES", ((2, 0),),
)  # fmt: skip
RESNET50 = (
    "MODEL.RESNETS.DEPTH", 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS", 64,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 256,
    "MODEL.RESNETS.WIDTH_PER_GROUP", 64,
    "MODEL.RESNETS.STRIDE_IN_1X1", False,
    "INPUT.MIN_SIZE_TEST", 64,
    "INPUT.MAX_SIZE_TEST", 128,
)  # fmt: skip


def twin(model):
    """Return torchvision's own model with the weights of ours."""
    net = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=2, min_size=64, max_size=128,
        image_mean=model.detector.transform.image_mean,
        image_std=model.detector.transform.image_std,
    )  # fmt: skip
    names = {"stem.conv1.norm": "bn1", "stem.conv1": "conv1"}
    names |= {f"res{i + 1}": f"layer{i}" for i in range(1, 5)}
    parts = {"conv1.norm": "bn1", "conv2.norm": "bn2", "conv3.norm": "bn3"}
    parts |= {"shortcut.norm": "downsample.1", "shortcut": "downsample.0"}
    state = {}
    for key, value in model.state_dict().items():
        if key.startswith("backbone."):
            for old, new in (names | parts).items():
                key = key.replace(f"{old}.", f"{new}.")
            key = key.replace("backbone.", "backbone.body.", 1)
        state[key.removeprefix("detector.")] = value
    net.load_state_dict(state)
    return net


def test_it_computes_what_the_library_does(tiny_cfg, tmp_path):
    torch.manual_seed(0)
    model = build_model(tiny_cfg(tmp_path, *PEER, *RESNET50)).eval()
    net = twin(model).eval()
    # Random heads are nowhere sure of a lesion: let them be.
    for head in (model.detector.roi_heads, net.roi_heads):
        torch.nn.init.constant_(head.box_predictor.cls_score.bias[1:], 5.0)
    batch = [sample(64, 96, (10, 20, 40, 60)), sample(64, 80, (5, 5, 30, 40))]
    with torch.inference_mode():
        ours = model.inference(batch)
        theirs = net([item["image"].float() for item in batch])
    for found, expected in zip(ours, theirs, strict=True):
        assert len(found)
        torch.testing.assert_close(found.scores, expected["scores"])
        torch.testing.assert_close(found.pred_masks, expected["masks"])


def test_it_trains_and_predicts(tiny_cfg, tmp_path):
    cfg = tiny_cfg(tmp_path, *PEER)
    run = train_run(cfg)
    names = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")
    latest = run.trainer.storage.latest()
    assert all(0 < latest[name][0] < 100 for name in names), latest
    segmenter = Segmenter(cfg, run.trainer.model).eval()
    image = {"image": sample(64, 96, (0, 0, 9, 9))["image"], "height": 128, "width": 192}
    with torch.inference_mode():
        (found,) = segmenter([image])
    assert found["lesion"].mask.shape == (128, 192)


@pytest.mark.parametrize("training", [True, False])
def test_an_image_without_findings(training, tiny_cfg, tmp_path):
    model = build_model(tiny_cfg(tmp_path, *PEER)).train(training)
    torch.nn.init.constant_(model.detector.roi_heads.box_predictor.cls_score.bias[:1], 50.0)
    batch = [sample(64, 64, (8, 8, 40, 40))]
    if training:
        batch[0]["instances"].gt_classes = torch.tensor([0])
        batch[0]["instances"].gt_boxes = Boxes([[8.0, 8, 40, 40]])
        assert all(value.isfinite() for value in model(batch).values())
    else:
        (found,) = model(batch)
        assert len(found) == 0
