"""Putting a trained model into one file, with what it was made from."""

import importlib.metadata
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

import lesion_d2
import lesion_d2.data.datasets
from lesion_d2.data.manifest import read_fingerprints
from lesion_d2.engine.setup import read_data
from lesion_d2.errors import LesionError
from lesion_d2.files import read_json
from lesion_d2.prediction.bundle import SUFFIX, read_origin, write_bundle
from lesion_d2.prediction.metadata import GRAPH_SUFFIX
from lesion_d2.prediction.segmenter import load_segmenter
from lesion_d2.results.evaluation import REMEDY


def export(cfg: CfgNode, path: Path) -> None:
    """Write the model of ``cfg.MODEL.WEIGHTS`` and where it comes from.

    The suffix of ``path`` says which file it becomes: ``.safetensors``, or ``.onnx``, which is
    also for prediction without torch.

    Of the provenance, ``data`` says what each data set for training and validation held when the
    run began (``data.json`` beside the weights; without one, what it holds now), and ``metrics``
    has the means with their 95 % intervals of each evaluation of these weights below
    ``cfg.OUTPUT_DIR/eval``. Weights of a bundle keep its provenance, to which its hash and these
    metrics are added.

    Raises:
        LesionError: if the weights do not fit, or a file cannot be read.
    """
    if path.suffix not in (SUFFIX, GRAPH_SUFFIX):
        raise LesionError(f"{path}: give a name that ends in {SUFFIX} or {GRAPH_SUFFIX}")
    segmenter = load_segmenter(cfg, prepare=False)
    sha256 = segmenter.outliner.weights_sha256
    provenance = {
        "weights": Path(cfg.MODEL.WEIGHTS).name,
        "weights_sha256": sha256,
        "seed": cfg.SEED,
        "data": read_data(Path(cfg.MODEL.WEIGHTS).parent) or _data(cfg),
        "metrics": _metrics(Path(cfg.OUTPUT_DIR), sha256),
        "commit": _commit(),
        "versions": {name: importlib.metadata.version(name) for name in ("lesion_d2", "torch")},
    }
    if origin := read_origin(cfg.MODEL.WEIGHTS)[1]:
        metrics = [*origin.get("metrics", []), *provenance["metrics"]]
        provenance = origin | {"bundle_sha256": sha256, "metrics": metrics}
    confidence = segmenter.outliner.confidence
    if path.suffix == SUFFIX:
        write_bundle(path, cfg, segmenter.model, confidence, provenance)
        return
    from lesion_d2.prediction.graph_file import write_onnx  # needs packages of its own

    write_onnx(path, cfg, segmenter.model.cpu(), confidence, provenance)


def _data(cfg: CfgNode) -> dict[str, Any]:
    """Return the fingerprints that the data sets have now, of a run from before it kept its own."""
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL)
    return {name: read_fingerprints(MetadataCatalog.get(name).get("image_root")) for name in names}


def _metrics(run: Path, sha256: str) -> list[dict[str, Any]]:
    found = [read_json(path, REMEDY) for path in sorted(run.glob("eval/*/metrics.json"))]
    about = (
        *("dataset", "split_fingerprint", "num_images", "resolution", "confidence"),
        *("views", "view_scales", "second_look"),
    )
    return [
        {key: metrics[key] for key in metrics if key in about or key.startswith("mean_")}
        for metrics in found
        if metrics.get("weights_sha256") == sha256
    ]


def _commit() -> str | None:
    """Return that of the project where it runs from its repository."""
    root = Path(lesion_d2.__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty"]
    with suppress(OSError, subprocess.CalledProcessError):
        if (root / ".git").exists():
            return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()
    return None
