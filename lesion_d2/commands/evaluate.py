"""Evaluating a checkpoint on registered data sets."""

import argparse
import importlib.metadata
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from tabulate import tabulate

from lesion_d2.commands.plot import draw_evaluation
from lesion_d2.data.manifest import read_input_fingerprint
from lesion_d2.engine.setup import setup
from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.evaluation.failure_detection import FAILURE_IOU, failure_detection
from lesion_d2.evaluation.lesion_evaluator import LesionEvaluator
from lesion_d2.evaluation.metrics import COUNTS, METRICS
from lesion_d2.files import alone
from lesion_d2.prediction.candidates import MASK_THRESHOLD
from lesion_d2.prediction.outliner import prediction_settings
from lesion_d2.prediction.segmenter import load_segmenter
from lesion_d2.report.write import write_report
from lesion_d2.results.evaluation import write_evaluation
from lesion_d2.results.run import find_run

_IMPORTS = ("detectron2", "torch", "torchvision", "numpy", "cv2", "PIL", "pycocotools")


def library_versions() -> dict[str, str]:
    """Return the version of each installed package that holds one of the imports."""
    packages = importlib.metadata.packages_distributions()
    names = [name for imported in _IMPORTS for name in sorted(set(packages.get(imported, ())))]
    return {name: importlib.metadata.version(name) for name in names}


def evaluate(cfg: CfgNode) -> dict[str, dict[str, Any]]:
    """Evaluate ``cfg.MODEL.WEIGHTS`` on each data set of ``cfg.DATASETS.TEST``.

    Writes an evaluation to ``<cfg.OUTPUT_DIR>/<data set>/``, and returns the content of each
    ``metrics.json`` by data set; nothing on all but the main process.

    Raises:
        LesionError: if the weights do not fit the model, a data set is missing, or another process
            evaluates into the same folder.
    """
    segmenter = load_segmenter(cfg)
    results = {}
    for name in cfg.DATASETS.TEST:
        folder = Path(cfg.OUTPUT_DIR) / name
        with alone(folder) if comm.is_main_process() else nullcontext():
            provenance = {
                "dataset": name,
                "input_fingerprint": read_input_fingerprint(
                    MetadataCatalog.get(name).get("image_root")
                ),
                "resolution": "original" if cfg.TEST.TRUTH_DIR else "data set",
                "weights": cfg.MODEL.WEIGHTS,
                "weights_sha256": segmenter.outliner.weights_sha256,
                "seed": cfg.SEED,
                **prediction_settings(cfg),
                "mask_threshold": MASK_THRESHOLD,
                "versions": library_versions(),
            }
            evaluator = LesionEvaluator(cfg.TEST.SCORE_THRESH, masks=True)
            loader = LesionTrainer.build_test_loader(cfg, name)
            summary = inference_on_dataset(segmenter, loader, evaluator)
            if not comm.is_main_process():
                continue
            split = {"split_fingerprint": evaluator.split_fingerprint}
            results[name] = {**provenance, **split, **summary["lesion"]}
            if segmenter.outliner.confidence:
                table = evaluator.table
                found = failure_detection(table["estimated_iou"], table["jaccard"])
                results[name]["confidence"] = found
            write_evaluation(folder, results[name], evaluator.images)
    return results


def evaluation_text(metrics: dict[str, Any]) -> str:
    """Return a table of a data set's figures and what they are figures of."""
    n = metrics["num_images"]
    rows = []
    for name, metric in METRICS.items():
        values = [metrics[f"mean_{name}{end}"] for end in ("", "_low", "_high")]
        rows.append((metric.words, *(f"{value:{metric.mean_format}}" for value in values)))
    size = "originals" if metrics["resolution"] == "original" else "data set's images"
    views = len(metrics["views"]) * len(metrics["view_scales"])
    again = " and a second look" if metrics["second_look"] else ""
    lines = [
        f"{metrics['dataset']}: {n} images at the size of the {size}, {views} view(s){again}, "
        f"split {metrics['split_fingerprint'][:12]}, weights {metrics['weights_sha256'][:12]}, "
        f"seed {metrics['seed']}, "
        + ", ".join(f"{name} {version}" for name, version in metrics["versions"].items()),
        tabulate(rows, headers=["metric", "mean", "95 % from", "to"], disable_numparse=True),
        f"max IoU over instances of score {metrics['score_threshold']} and above: median "
        f"{metrics['median_max_iou']:.4f}, quartiles {metrics['q1_max_iou']:.4f} and "
        f"{metrics['q3_max_iou']:.4f}",
        f"submitted masks: {metrics['instance_choice']}; {', '.join(metrics['postprocessing'])}",
        "; ".join(
            f"{count.words}: {metrics[name]} ({metrics[name] / n:.1%})"
            for name, count in COUNTS.items()
        ),
    ]
    if metrics["resolution"] != "original":
        lines.append(
            "for masks of the originals' size, as a submission needs: TEST.TRUTH_DIR FOLDER"
        )
    if (confidence := metrics.get("confidence")) and confidence["auroc"] is not None:
        lines.append(
            f"estimated IoU: AUROC {confidence['auroc']:.3f} for finding images below "
            f"{FAILURE_IOU}, {confidence['caught_at_10_percent']:.0%} of them in the lowest tenth, "
            f"mean absolute error {confidence['mean_absolute_error']:.3f}"
        )
    return "\n".join(lines)


def evaluate_and_draw(args: argparse.Namespace) -> None:
    """Run one process of an evaluation; the main one draws, reports and prints the results."""
    cfg = setup(args, "eval")  # the run's own config and log stay as they are
    for name, metrics in evaluate(cfg).items():
        print(evaluation_text(metrics))
        folder, images = Path(cfg.OUTPUT_DIR) / name, MetadataCatalog.get(name).get("image_root")
        if not images:
            print(f"no pictures and no report: where {name} has its images is not known")
            continue
        dataset = Path(images)
        draw_evaluation(folder, dataset)
        mean, low, high = (f"{metrics[f'mean_max_iou{end}']:.4f}" for end in ("", "_low", "_high"))
        report = write_report(folder, dataset, find_run(folder))
        print(f"mean max IoU {mean} (95 % interval {low} to {high}), report: {report}")
