"""Tuning the prediction of a trained model on its validation data."""

import csv
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from tabulate import tabulate

from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.failure_detection import failure_detection
from lesion_d2.evaluation.tuning import Row, Setting, measure, select
from lesion_d2.files import atomic_write, file_sha256
from lesion_d2.prediction.confidence import ConfidenceModel, fit_confidence
from lesion_d2.prediction.segmenter import load_segmenter

FOLDS = 5


def tune(cfg: CfgNode) -> Path:
    """Measure all settings on ``cfg.DATASETS.VAL``, print them, and write what was chosen.

    Writes to ``cfg.OUTPUT_DIR``: ``tuning.csv`` (the comparisons), ``confidence.json`` and
    ``config.yaml``, the config with the chosen settings, the weights and the confidence model.

    Returns:
        the path of ``config.yaml``.

    Raises:
        LesionError: if there is no validation data, or the weights do not fit.
    """
    if len(cfg.DATASETS.VAL) != 1:
        raise LesionError(f"DATASETS.VAL: {cfg.DATASETS.VAL}; tuning needs just one data set")
    (name,) = cfg.DATASETS.VAL
    model = load_segmenter(cfg).eval().model
    loader = LesionTrainer.build_test_loader(cfg, name)
    measurements = measure(model, loader, cfg.TEST.PRECISION)
    chosen, rows = select(measurements)
    folder = Path(cfg.OUTPUT_DIR)
    _write_rows(folder / "tuning.csv", rows)

    jaccard, features = measurements.jaccard[chosen], measurements.features[chosen]
    weights_sha256 = file_sha256(cfg.MODEL.WEIGHTS)
    fitted_on = {"dataset": name, "num_images": len(jaccard), "weights_sha256": weights_sha256}
    fit_confidence(features, jaccard, fitted_on).write(folder / "confidence.json")

    tuned = cfg.clone()
    tuned.defrost()
    for key, value in chosen.options().items():
        tuned.TEST[key] = value
    tuned.TEST.CONFIDENCE = str(folder / "confidence.json")
    tuned.OUTPUT_DIR = str(folder.parent)
    with atomic_write(folder / "config.yaml") as stream:
        stream.write(tuned.dump())

    print(f"{name}: {len(jaccard)} images, weights {weights_sha256[:12]}, Jaccard index")
    print(tabulate(map(_cells, rows), headers=HEADERS, disable_numparse=True))
    print(f"chosen: {_label(chosen)}")
    found = failure_detection(_cross_validated(features, jaccard), jaccard)
    print(
        f"confidence model, {FOLDS} folds: AUROC {_number(found['auroc'])} for {found['failures']} "
        f"images below 0.65, {_number(found['caught_at_10_percent'])} of them in the lowest tenth, "
        f"mean absolute error {_number(found['mean_absolute_error'])}"
    )
    return folder / "config.yaml"


def _cross_validated(features: np.ndarray, jaccard: np.ndarray) -> np.ndarray:
    """Estimate each image by a model fitted on the other folds."""
    fold = np.random.default_rng(0).permutation(len(jaccard)) % FOLDS
    estimated = np.empty_like(jaccard)
    for part in range(FOLDS):
        model: ConfidenceModel = fit_confidence(features[fold != part], jaccard[fold != part], {})
        estimated[fold == part] = model.estimate(features[fold == part])
    return estimated


HEADERS = (
    *("part", "setting", "mean", "95 % interval", "gain", "95 % interval"),
    *("thresholded", "below 0.65"),
)


def _cells(row: Row) -> tuple[str, ...]:
    part = {"views": row.setting.views, "choice": row.setting.choice}
    return (
        row.part,
        part.get(row.part, ", ".join(row.setting.pipeline)),
        f"{row.mean:.4f}",
        f"{row.low:.4f} to {row.high:.4f}",
        f"{row.gain:+.4f}",
        f"{row.gain_low:+.4f} to {row.gain_high:+.4f}",
        f"{row.threshold_jaccard:.4f}",
        str(row.below_065),
    )


def _label(setting: Setting) -> str:
    return f"{setting.views}; {setting.choice}; {', '.join(setting.pipeline)}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _write_rows(path: Path, rows: list[Row]) -> None:
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Row._fields)
        for row in rows:
            writer.writerow((row.part, _label(row.setting), _label(row.baseline), *row[3:]))
