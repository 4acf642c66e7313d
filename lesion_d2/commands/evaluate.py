"""Evaluating a checkpoint on registered data sets."""

import argparse
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import detectron2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from tabulate import tabulate

from lesion_d2.commands.plot import draw_evaluation
from lesion_d2.engine.setup import setup
from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.evaluation.failure_detection import failure_detection
from lesion_d2.evaluation.lesion_evaluator import LesionEvaluator
from lesion_d2.evaluation.official import SCORES
from lesion_d2.files import atomic_write, file_sha256
from lesion_d2.prediction.candidates import MASK_THRESHOLD
from lesion_d2.prediction.segmenter import load_segmenter, prediction_settings
from lesion_d2.report.write import find_run, write_report

_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pycocotools")


def _provenance(cfg: CfgNode, dataset_name: str) -> dict[str, Any]:
    manifest = Path(MetadataCatalog.get(dataset_name).image_root) / "split.json"
    fingerprint = json.loads(manifest.read_text())["fingerprint"] if manifest.is_file() else None
    return {
        "dataset": dataset_name,
        "fingerprint": fingerprint,
        "resolution": "original" if cfg.TEST.TRUTH_DIR else "data set",
        "weights": cfg.MODEL.WEIGHTS,
        "weights_sha256": file_sha256(cfg.MODEL.WEIGHTS),
        "seed": cfg.SEED,
        **prediction_settings(cfg),
        "mask_threshold": MASK_THRESHOLD,
        "versions": {"detectron2": detectron2.__version__}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def evaluate(cfg: CfgNode) -> dict[str, dict[str, Any]]:
    """Evaluate ``cfg.MODEL.WEIGHTS`` on each data set of ``cfg.DATASETS.TEST``.

    Writes ``metrics.json``, ``per_image.csv``, ``predictions.json`` and the submitted masks to
    ``<cfg.OUTPUT_DIR>/<data set>/``.

    Returns:
        the content of ``metrics.json`` by data set; empty on all but the main process.

    Raises:
        LesionError: if the weights do not fit the model or a data set is missing.
    """
    segmenter = load_segmenter(cfg)
    results = {}
    for name in cfg.DATASETS.TEST:
        folder = Path(cfg.OUTPUT_DIR) / name
        evaluator = LesionEvaluator(cfg.TEST.SCORE_THRESH, folder)
        loader = LesionTrainer.build_test_loader(cfg, name)
        summary = inference_on_dataset(segmenter, loader, evaluator)
        if comm.is_main_process():
            results[name] = {
                **_provenance(cfg, name),
                "split_fingerprint": evaluator.split_fingerprint,
                **summary["lesion"],
            }
            if segmenter.confidence:
                estimated = np.array([row.estimated_iou for row in evaluator.rows])
                jaccard = np.array([row.jaccard for row in evaluator.rows])
                results[name]["confidence"] = failure_detection(estimated, jaccard)
            with atomic_write(folder / "metrics.json") as stream:
                json.dump(results[name], stream, indent=1)
                stream.write("\n")
    return results


def describe(metrics: dict[str, Any]) -> str:
    """Return a table of a data set's figures and what they are figures of."""
    n = metrics["num_images"]
    rows = [
        (
            metric.replace("_", " "),
            *(f"{metrics[f'mean_{metric}{end}']:.4f}" for end in ("", "_low", "_high")),
        )
        for metric in SCORES
    ]
    size = "originals" if metrics["resolution"] == "original" else "data set's images"
    views = len(metrics["views"]) * len(metrics["view_scales"])
    lines = [
        f"{metrics['dataset']}: {n} images at the size of the {size}, {views} view(s), split "
        f"{metrics['split_fingerprint'][:12]}, weights {metrics['weights_sha256'][:12]}, "
        f"seed {metrics['seed']}, "
        + ", ".join(f"{name} {version}" for name, version in metrics["versions"].items()),
        tabulate(rows, headers=["metric", "mean", "95 % from", "to"], disable_numparse=True),
        f"max IoU over instances of score {metrics['score_threshold']} and above: median "
        f"{metrics['median_max_iou']:.4f}, quartiles {metrics['q1_max_iou']:.4f} and "
        f"{metrics['q3_max_iou']:.4f}, {metrics['misses']} missed and "
        f"{metrics['below_065']} below 0.65",
        f"submitted masks ({metrics['instance_choice']}; {', '.join(metrics['postprocessing'])}): "
        f"{metrics['submitted_empty']} empty and {metrics['submitted_below_065']} "
        f"({metrics['submitted_below_065'] / n:.1%}) with a Jaccard index below 0.65",
    ]
    if (confidence := metrics.get("confidence")) and confidence["auroc"] is not None:
        lines.append(
            f"estimated IoU: AUROC {confidence['auroc']:.3f} for finding images below 0.65, "
            f"{confidence['caught_at_10_percent']:.0%} of them in the lowest tenth, mean absolute "
            f"error {confidence['mean_absolute_error']:.3f}"
        )
    return "\n".join(lines)


def evaluate_and_draw(args: argparse.Namespace) -> None:
    """Run one process of an evaluation; the main one draws, reports and prints the results."""
    cfg = setup(args, "eval")  # the run's own config and log stay as they are
    results = evaluate(cfg)
    for name, metrics in results.items():
        folder, dataset = Path(cfg.OUTPUT_DIR) / name, Path(MetadataCatalog.get(name).image_root)
        draw_evaluation(folder, dataset)
        report = write_report(folder, dataset, find_run(folder))
        print(f"{describe(metrics)}\nreport: {report}")
