"""Models to measure: with given weights, or with random ones that behave like trained ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

from lesion_d2.benchmark.data import Options, converted
from lesion_d2.config.load import load_config, settle_device
from lesion_d2.data.datasets import register_dataset
from lesion_d2.data.mapper import LesionMapper
from lesion_d2.errors import LesionError
from lesion_d2.modeling.weights import load_trained

# The optimizer has all its work, and weights stay as they are.
LEARNING_RATE = 1e-12


def benchmark_config(options: Options) -> CfgNode:
    """Return an experiment's config, without its data sets, weights and output folder.

    Raises:
        LesionError: if it cannot be used, or there is no file with the weights.
    """
    if "MODEL.WEIGHTS" in options.opts:
        raise LesionError("MODEL.WEIGHTS: is not used here; give --weights FILE")
    if options.weights and not options.weights.is_file():
        raise LesionError(
            f"--weights: {options.weights}: no such file; give a checkpoint of the config"
        )
    cfg = load_config(options.config_file, list(options.opts))
    cfg.DATASETS.TRAIN = cfg.DATASETS.VAL = cfg.DATASETS.TEST = ()
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = settle_device(cfg.MODEL.DEVICE), ""
    cfg.OUTPUT_DIR = str(options.folder / "run")
    cfg.SOLVER.BASE_LR = LEARNING_RATE
    return cfg


def fill_for_benchmark(
    model: nn.Module, weights: Path | None, batch: Sequence[Mapping[str, Any]]
) -> None:
    """Load a checkpoint into a Detectron2 model, or make its random weights fit to be measured.

    For that, frozen norms take their statistics from a mapped batch: without any the activations
    of a deep network overflow.
    """
    if weights:
        load_trained(model, str(weights))
        return

    def take(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].float()
        norm.get_buffer("running_mean").copy_(values.mean((0, 2, 3)))
        norm.get_buffer("running_var").copy_(values.var((0, 2, 3)))

    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(take) for norm in norms]
    backbone: Any = model.backbone
    preprocess: Any = model.preprocess_image
    with torch.no_grad():
        backbone(preprocess(batch).tensor)
    for hook in hooks:
        hook.remove()


def prepare_test(options: Options) -> tuple[CfgNode, list[dict[str, Any]]]:
    """Return a config with weights, and dataset dicts of the first test images.

    ``MODEL.WEIGHTS`` is set, to a file of random ones where none are given.

    Raises:
        LesionError: if the config cannot be used, or a file or image is missing.
    """
    cfg = benchmark_config(options)
    register_dataset("benchmark", converted(options, "test"))
    records = DatasetCatalog.get("benchmark_test")[: options.images]
    if len(records) < options.images:
        raise LesionError(
            f"--images: {options.images} asked for, but the test split has {len(records)} only"
        )
    weights = options.weights or options.folder / "weights.pth"
    if not options.weights:
        torch.manual_seed(0)
        model = build_model(cfg)
        fill_for_benchmark(model, None, [*map(LesionMapper(cfg, False), records[:2])])
        torch.save({"model": model.state_dict()}, weights)
    cfg.MODEL.WEIGHTS = str(weights)
    return cfg, records
