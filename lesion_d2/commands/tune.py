"""Tuning the prediction of a trained model on its validation data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from lesion_d2.data.loader import load_members
from lesion_d2.data.manifest import read_manifest
from lesion_d2.engine.setup import check_evaluation
from lesion_d2.engine.trainer import LesionTrainer
from lesion_d2.errors import LesionError
from lesion_d2.evaluation.failure_detection import FAILURE_IOU, failure_detection
from lesion_d2.evaluation.tuning import (
    Measurement,
    Setting,
    Trial,
    deal_folds,
    measure,
    select,
)
from lesion_d2.files import atomic_write, write_csv, write_json
from lesion_d2.prediction.confidence import WORDS, fit_confidence, word_for
from lesion_d2.prediction.segmenter import TorchNetwork, load_segmenter

FOLDS = 5


def tune(cfg: CfgNode) -> Path:
    """Measure settings on ``cfg.DATASETS.VAL``, print them, and write what was chosen.

    The data set's flipped copies are left out: they are no images of their own. Writes to
    ``cfg.OUTPUT_DIR`` ``tuning.csv`` (the comparisons), ``confidence.json`` and ``config.yaml``,
    the config with the chosen settings, the weights and the confidence model; returns its path.

    Raises:
        LesionError: if there is no validation data, or the weights do not fit.
    """
    if len(cfg.DATASETS.VAL) != 1:
        raise LesionError(f"DATASETS.VAL: {cfg.DATASETS.VAL}; tuning needs just one data set")
    check_evaluation(cfg, cfg.DATASETS.VAL)
    (name,) = cfg.DATASETS.VAL
    segmenter = load_segmenter(cfg).eval()
    weights_sha256 = segmenter.outliner.weights_sha256
    network = TorchNetwork(segmenter.model, cfg.TEST.PRECISION)
    images = cfg.clone()
    images.defrost()
    images.INPUT.MEMBER_FLIPS_VAL = ("none",)

    def try_settings(settings: Sequence[Setting]) -> dict[Setting, Measurement]:
        loader = LesionTrainer.build_test_loader(images, name)
        return measure(network, loader, settings)

    chosen, measured, trials = select(try_settings)
    folder = Path(cfg.OUTPUT_DIR)
    rows = [(t.part, _label(t.setting), _label(t.baseline), *t[3:]) for t in trials]
    write_csv(folder / "tuning.csv", Trial._fields, rows)

    count = len(measured.jaccard)
    fitted_on = {"dataset": name, "num_images": count, "weights_sha256": weights_sha256}
    model_of_iou = fit_confidence(measured.features, measured.jaccard, fitted_on)
    write_json(folder / "confidence.json", model_of_iou.to_dict())

    tuned = cfg.clone()
    tuned.defrost()
    for key, value in chosen.options().items():
        tuned.TEST[key] = value
    tuned.TEST.CONFIDENCE = str(folder / "confidence.json")
    tuned.OUTPUT_DIR = str(folder.parent)
    with atomic_write(folder / "config.yaml") as stream:
        stream.write(tuned.dump())

    print(f"{name}: {count} images, weights {weights_sha256[:12]}, Jaccard index")
    print(tabulate(map(_cells, trials), headers=HEADERS, disable_numparse=True))
    print(f"chosen: {_label(chosen)}")
    ids = [record["isic_id"] for record in load_members((name,), ("none",))]
    estimated = _cross_validated(measured, deal_folds(ids, _groups(name), FOLDS))
    found = failure_detection(estimated, measured.jaccard)
    auroc, caught, error = (
        "unknown" if found[key] is None else f"{found[key]:.3f}"
        for key in ("auroc", "caught_at_10_percent", "mean_absolute_error")
    )
    print(
        f"confidence model, {FOLDS} folds: AUROC {auroc} for {found['failures']} images below "
        f"{FAILURE_IOU}, {caught} of them in the lowest tenth, mean absolute error {error}"
    )
    words = np.array([word_for(value) for value in estimated])
    for word in WORDS:
        of_word = measured.jaccard[words == word]
        failed = np.count_nonzero(of_word < FAILURE_IOU)
        print(f"{word}: {len(of_word)} images, {failed} of them below {FAILURE_IOU}")
    return folder / "config.yaml"


def _groups(name: str) -> list[list[str]]:
    """Return the groups of a data set that was converted, none of another."""
    root = MetadataCatalog.get(name).get("image_root")
    manifest = root and Path(root, "split.json")
    return read_manifest(manifest).groups if manifest and manifest.is_file() else []


def _cross_validated(measured: Measurement, fold: np.ndarray) -> np.ndarray:
    """Estimate each image by a model fitted on the other folds."""
    jaccard, features = measured.jaccard, measured.features
    estimated = np.empty_like(jaccard)
    for part in range(FOLDS):
        model = fit_confidence(features[fold != part], jaccard[fold != part], {})
        estimated[fold == part] = model.estimate(features[fold == part])
    return estimated


HEADERS = (
    *("part", "setting", "mean", "95 % interval", "gain", "95 % interval"),
    *("thresholded", f"below {FAILURE_IOU}"),
)


def _cells(trial: Trial) -> tuple[str, ...]:
    part = {"views": trial.setting.views, "choice": trial.setting.choice}
    return (
        trial.part,
        part.get(trial.part, ", ".join(trial.setting.steps)),
        f"{trial.mean:.4f}",
        f"{trial.low:.4f} to {trial.high:.4f}",
        f"{trial.gain:+.4f}",
        f"{trial.gain_low:+.4f} to {trial.gain_high:+.4f}",
        f"{trial.threshold_jaccard:.4f}",
        str(trial.failures),
    )


def _label(setting: Setting) -> str:
    return f"{setting.views}; {setting.choice}; {', '.join(setting.steps)}"
