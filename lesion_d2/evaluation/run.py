"""Evaluating a checkpoint on registered data sets."""

import argparse
import hashlib
import importlib.metadata
import json
import logging
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm

from lesion_d2.engine.checkpoint import load_trained
from lesion_d2.engine.setup import setup
from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.evaluation.lesion_evaluator import LesionEvaluator
from lesion_d2.figures.draw import draw_evaluation
from lesion_d2.files import atomic_write

logger = logging.getLogger(__name__)


def _provenance(cfg: CfgNode, dataset_name: str) -> dict[str, Any]:
    manifest = Path(MetadataCatalog.get(dataset_name).image_root) / "split.json"
    fingerprint = json.loads(manifest.read_text())["fingerprint"] if manifest.is_file() else None
    with open(cfg.MODEL.WEIGHTS, "rb") as stream:
        weights_sha256 = hashlib.sha256(stream.read()).hexdigest()
    return {
        "dataset": dataset_name,
        "fingerprint": fingerprint,
        "weights": cfg.MODEL.WEIGHTS,
        "weights_sha256": weights_sha256,
        "seed": cfg.SEED,
        "min_size_test": cfg.INPUT.MIN_SIZE_TEST,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("torch", "torchvision", "numpy", "opencv-python-headless", "pycocotools")
        },
    }


def evaluate(cfg: CfgNode) -> dict[str, dict[str, Any]]:
    """Evaluate ``cfg.MODEL.WEIGHTS`` on each data set of ``cfg.DATASETS.TEST``.

    Writes ``metrics.json``, ``per_image.csv`` and ``predictions.json`` to
    ``<cfg.OUTPUT_DIR>/<data set>/``.

    Returns:
        the content of ``metrics.json`` by data set; empty on all but the main process.

    Raises:
        LesionError: if the weights do not fit the model or a data set is missing.
    """
    model = LesionTrainer.build_model(cfg)
    load_trained(model, cfg.MODEL.WEIGHTS)
    results = {}
    for name in cfg.DATASETS.TEST:
        folder = Path(cfg.OUTPUT_DIR) / name
        summary = inference_on_dataset(
            model,
            LesionTrainer.build_test_loader(cfg, name),
            LesionEvaluator(cfg.TEST.SCORE_THRESH, folder),
        )
        if comm.is_main_process():
            results[name] = {**_provenance(cfg, name), **summary["lesion"]}
            with atomic_write(folder / "metrics.json") as stream:
                json.dump(results[name], stream, indent=1)
                stream.write("\n")
    return results


def describe(metrics: dict[str, Any]) -> str:
    """Return one line that states a data set's figures and what they are figures of."""
    n = int(metrics["num_images"])
    return (
        f"{metrics['dataset']}: mean max IoU {metrics['mean_max_iou']:.4f} "
        f"(95 % interval {metrics['mean_max_iou_low']:.4f}-{metrics['mean_max_iou_high']:.4f}), "
        f"median {metrics['median_max_iou']:.4f}, quartiles {metrics['q1_max_iou']:.4f} and "
        f"{metrics['q3_max_iou']:.4f}, {int(metrics['misses'])} missed and "
        f"{int(metrics['below_065'])} below 0.65 of {n} images, "
        f"score threshold {metrics['score_threshold']}"
    )


def evaluate_and_draw(args: argparse.Namespace) -> None:
    """Run one process of an evaluation; the main one draws the figures and prints the results."""
    cfg = setup(args, "eval")  # the run's own config and log stay as they are
    results = evaluate(cfg)
    for name, metrics in results.items():
        folder = Path(cfg.OUTPUT_DIR) / name
        draw_evaluation(folder, Path(MetadataCatalog.get(name).image_root))
        print(f"{describe(metrics)}\nfiles and figures: {folder}")
