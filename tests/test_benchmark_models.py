"""The models that benchmarks compare: the same weights, settings and operations."""

import pytest
import torch
from tiny import DEMO


@pytest.fixture(scope="module", params=["stock", "without_p2"])
def models(request):
    """Detectron2's stock model, of random weights, and torchvision's with the same."""
    from detectron2.modeling import build_model

    from lesion_d2.benchmark.models import fill
    from lesion_d2.benchmark.rivals.stock_detectron2 import stock_config
    from lesion_d2.benchmark.rivals.torchvision_model import build_torchvision, copy_weights
    from lesion_d2.config.load import load_config

    torch.manual_seed(0)
    cfg = stock_config(load_config(DEMO, ["MODEL.DEVICE", "cpu"]))
    if request.param == "without_p2":
        cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4", "p5"]
        cfg.MODEL.RPN.IN_FEATURES = ["p3", "p4", "p5", "p6"]
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256]]
    model = build_model(cfg).eval()
    batch = [{"image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)}]
    fill(model, None, batch)
    twin = build_torchvision(cfg, 64, 96).eval()
    assert copy_weights(model, twin)
    return cfg, model, twin, batch


def test_torchvisions_model_computes_the_same(models):
    _, model, twin, batch = models
    with torch.no_grad():
        ours = model.backbone(model.preprocess_image(batch).tensor)
        theirs = twin.backbone(twin.transform([batch[0]["image"].float()])[0].tensors)
        for left, right in zip(ours.values(), theirs.values(), strict=False):
            torch.testing.assert_close(left, right, rtol=0.01, atol=0.01)

        logits, deltas = model.proposal_generator.rpn_head(list(ours.values()))
        theirs_logits, theirs_deltas = twin.rpn.head(list(ours.values()))
        torch.testing.assert_close(logits, theirs_logits)
        torch.testing.assert_close(deltas, theirs_deltas)

        regions, heads = torch.rand(2, 256, 7, 7), model.roi_heads
        scores, boxes = heads.box_predictor(heads.box_head(regions))
        theirs_scores, theirs_boxes = twin.roi_heads.box_predictor(twin.roi_heads.box_head(regions))
        torch.testing.assert_close(scores, theirs_scores[:, [1, 0]])
        torch.testing.assert_close(boxes, theirs_boxes[:, 4:])
        masks = twin.roi_heads.mask_predictor(twin.roi_heads.mask_head(regions))
        torch.testing.assert_close(heads.mask_head.layers(regions), masks[:, 1:])


@pytest.mark.parametrize("models", ["stock"], indirect=True)
def test_torchvisions_model_is_the_stock_one(models):
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    from lesion_d2.benchmark.rivals.torchvision_model import freeze

    _, _, twin, _ = models
    stock = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)
    ours = {name: value.shape for name, value in twin.named_parameters()}
    # Without weights torchvision trains the norms, with weights it freezes them.
    theirs = {
        name: value.shape
        for name, value in stock.named_parameters()
        if ".bn" not in name and ".downsample.1." not in name
    }
    assert ours == theirs
    for part in ("fg_bg_sampler", "detections_per_img", "score_thresh", "nms_thresh"):
        left, right = getattr(twin.roi_heads, part), getattr(stock.roi_heads, part)
        assert getattr(left, "__dict__", left) == getattr(right, "__dict__", right)
    assert twin.rpn.fg_bg_sampler.__dict__ == stock.rpn.fg_bg_sampler.__dict__

    freeze(twin, 2)
    frozen = {name.split(".")[2] for name, p in twin.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}


def test_weights_of_another_network_do_not_fit(models):
    from detectron2.modeling import build_model

    from lesion_d2.benchmark.rivals.torchvision_model import copy_weights
    from lesion_d2.config.load import load_config

    assert not copy_weights(build_model(load_config(DEMO, ["MODEL.DEVICE", "cpu"])), models[2])


def test_operations_agree_with_those_that_torch_counts(tiny_root, tiny_cfg, tmp_path):
    """torch counts what forward and backward pass really do."""
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage
    from torch.utils.flop_counter import FlopCounterMode

    from lesion_d2.benchmark.operations import step_operations
    from lesion_d2.data.loader import build_train_loader

    cfg = tiny_cfg(tmp_path, "SOLVER.STAGES", ((1, 2),))
    model = build_model(cfg)
    batch = next(iter(build_train_loader(cfg)))
    torch.manual_seed(0)
    operations = step_operations(model, batch, 2)
    torch.manual_seed(0)
    with FlopCounterMode(display=False) as counter, EventStorage():
        sum(model(batch).values()).backward()
    assert operations == pytest.approx(counter.get_total_flops(), rel=0.1)
    assert step_operations(model, batch, 5) < operations


def test_stock_settings_are_the_model_zoos():
    from lesion_d2.benchmark.rivals.stock_detectron2 import stock_config, stock_detections
    from lesion_d2.config.load import load_config

    cfg = load_config(DEMO, ["MODEL.DEVICE", "cpu"])
    stock, detections = stock_config(cfg), stock_detections(cfg)
    assert stock.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE == 512
    assert stock.MODEL.RPN.BATCH_SIZE_PER_IMAGE == 256
    assert stock.MODEL.RPN.POST_NMS_TOPK_TRAIN == 1000
    assert not stock.SOLVER.AMP.ENABLED
    for key in ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN"):
        assert stock.INPUT[key] == cfg.INPUT[key]
    assert stock.SOLVER.IMS_PER_BATCH == cfg.SOLVER.IMS_PER_BATCH
    assert detections.MODEL.RPN.POST_NMS_TOPK_TEST == 1000
    assert detections.TEST.DETECTIONS_PER_IMAGE == 100
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 3
