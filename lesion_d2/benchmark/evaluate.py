"""Evaluation against COCO's, on the same predictions, and against the inference before it."""

import os
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import COCOEvaluator

from lesion_d2.benchmark.machine import to_the_end
from lesion_d2.benchmark.models import prepare_test
from lesion_d2.benchmark.options import Options
from lesion_d2.benchmark.results import Section
from lesion_d2.benchmark.rivals.stock_detectron2 import stock_detections, with_boxes
from lesion_d2.benchmark.timing import Contender, alternate, ratio
from lesion_d2.evaluation.lesion_evaluator import LesionEvaluator
from lesion_d2.prediction.segmenter import Segmenter, load_segmenter
from lesion_d2.results.evaluation import write_evaluation

OURS, COCO, INFERENCE = "LesionEvaluator", "COCOEvaluator", "inference"
SCORES_ONLY = "LesionEvaluator, no files"

Items = Sequence[dict[str, Any]]


def run(options: Options) -> tuple[str, list[Section]]:
    """Measure; return the device, and the results."""
    cfg, _, inputs = prepare_test(options)
    configs = {"config of lesion_d2": cfg, "zoo's number of instances": stock_detections(cfg)}
    return cfg.MODEL.DEVICE, [
        _section(options, config, inputs, f"{words}, {options.weights_words}")
        for words, config in configs.items()
    ]


def _section(options: Options, cfg: CfgNode, inputs: Items, title: str) -> Section:
    segmenter = load_segmenter(cfg).eval()
    outputs = infer(segmenter, inputs)
    boxed = with_boxes(outputs)
    folder = options.folder / "evaluation"
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    threshold = cfg.TEST.SCORE_THRESH
    coco = partial(evaluate_coco, inputs, boxed, "benchmark_test", folder)
    contenders = [
        Contender(OURS, partial(evaluate_ours, inputs, outputs, folder, threshold), remove),
        Contender(SCORES_ONLY, partial(evaluate_ours, inputs, outputs, None, threshold)),
        Contender(COCO, coco, remove),
        Contender(INFERENCE, to_the_end(partial(infer, segmenter, inputs), cfg.MODEL.DEVICE)),
    ]
    seconds = alternate(contenders, options.repeats, "evaluating")
    shares = {name: ratio(seconds[name], seconds[INFERENCE]) for name in (OURS, SCORES_ONLY, COCO)}
    instances = sum(len(output["instances"]) for output in outputs)
    title = f"evaluation of {len(inputs)} images with {instances} instances, {title}"
    columns = {"share of the inference's time": shares}
    return Section(title, "image", len(inputs), seconds, (COCO, INFERENCE), columns=columns)


def infer(segmenter: Segmenter, inputs: Items) -> list[dict[str, Any]]:
    """Return the outputs of a model, one image at a time."""
    with torch.inference_mode():
        return [output for item in inputs for output in segmenter([item])]


def evaluate_ours(
    inputs: Items, outputs: Items, folder: Path | None, score_threshold: float
) -> dict[str, Any]:
    """Evaluate with this project's evaluator, and write its files if a folder is given."""
    evaluator = LesionEvaluator(score_threshold)
    for item, output in zip(inputs, outputs, strict=True):
        evaluator.process([item], [output])
    summary = dict(evaluator.evaluate() or {})
    if folder:
        write_evaluation(folder, summary, evaluator.images)
    return summary


def evaluate_coco(inputs: Items, outputs: Items, name: str, folder: Path) -> dict[str, Any]:
    """Evaluate boxes and masks with Detectron2's evaluator, as it does by default.

    Args:
        inputs: of the model.
        outputs: from :func:`~lesion_d2.benchmark.rivals.stock_detectron2.with_boxes`.
        name: registered data set that the inputs come from.
        folder: to write to.
    """
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        evaluator = COCOEvaluator(name, None, False, str(folder))
        evaluator.reset()
        for item, output in zip(inputs, outputs, strict=True):
            evaluator.process([item], [output])
        return dict(evaluator.evaluate([item["image_id"] for item in inputs]))
