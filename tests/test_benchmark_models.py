"""The models that benchmarks compare: their settings and operations."""

import warnings

import pytest
import torch
from tiny import DEMO


def test_operations_agree_with_those_that_fvcore_counts(tiny_root, tiny_cfg, tmp_path):
    """The backward pass has twice the operations of the forward pass, but none in frozen parts."""
    from detectron2.modeling import build_model
    from detectron2.utils.analysis import FlopCountAnalysis
    from detectron2.utils.events import EventStorage

    from lesion_d2.benchmark.operations import step_operations
    from lesion_d2.data.loader import build_train_loader
    from lesion_d2.engine.staged_freeze import backbone_blocks

    cfg = tiny_cfg(tmp_path, "SOLVER.STAGES", ((1, 2),))
    model = build_model(cfg)
    batch = next(iter(build_train_loader(cfg)))
    with warnings.catch_warnings(), EventStorage(), torch.no_grad():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(model, list(batch))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts = analysis.tracer_warnings("none").by_module()
    names = {module: name for name, module in model.named_modules()}
    blocks = [block for _, block in backbone_blocks(model)]
    previous = float("inf")
    for freeze_at in (2, 5):
        for block in blocks[:freeze_at]:
            block.requires_grad_(False)
        frozen = sum(counts[f"model.{names[block]}"] for block in blocks[:freeze_at])
        expected = 2 * (counts[""] + 2 * (counts[""] - frozen))
        operations = step_operations(model, batch)
        assert operations == pytest.approx(expected, rel=0.1)
        assert operations < previous
        assert all(parameter.grad is None for parameter in model.parameters())
        previous = operations


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
