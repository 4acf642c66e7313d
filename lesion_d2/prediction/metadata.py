"""What a file of a model holds besides its network, as texts: config, confidence, provenance."""

import json
from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from lesion_d2.prediction.confidence import ConfidenceModel, confidence_from_dict, read_confidence

FORMAT = "lesion_d2 1"
GRAPH_SUFFIX = ".onnx"
GRAPH_STRIDE = 32  # both sides of a graph's input are multiples of it
# Keys that say what is done around a graph; the others are fixed in it.
CHANGEABLE = (
    *("INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "TEST.VIEWS", "TEST.VIEW_SCALES"),
    *("TEST.SECOND_LOOK", "TEST.INSTANCE_CHOICE", "TEST.POSTPROCESSING", "TEST.CONFIDENCE"),
)


def write_metadata(
    cfg: CfgNode, confidence: ConfidenceModel | None, provenance: Mapping[str, Any]
) -> dict[str, str]:
    """Return the texts by name; paths in the config are left out.

    The provenance is plain values.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = "output"
    cfg.MODEL.WEIGHTS = cfg.TEST.TRUTH_DIR = cfg.TEST.CONFIDENCE = ""
    return {
        "format": FORMAT,
        "config": json.dumps(cfg),
        "confidence": json.dumps(confidence and confidence.to_dict()),
        "provenance": json.dumps(dict(provenance)),
    }


def check_format(metadata: Mapping[str, str]) -> None:
    """Raise a ValueError unless the texts are of a file that this version reads."""
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")


def read_origin_texts(
    metadata: Mapping[str, str], origin: str, confidence_file: str = ""
) -> tuple[ConfidenceModel | None, dict[str, Any]]:
    """Return the confidence model and the provenance; a file of another model replaces the first.

    Raises:
        LesionError: if the confidence model is damaged.
        ValueError, TypeError, KeyError, RecursionError: if a text is not what it should be.
    """
    provenance = dict(json.loads(metadata["provenance"]))
    confidence = json.loads(metadata["confidence"])
    # What was exported again has the hash of its first weights and that of the file they were in.
    hashes = [str(provenance.get(key)) for key in ("weights_sha256", "bundle_sha256")]
    if confidence_file:
        return read_confidence(confidence_file, *hashes), provenance
    if confidence is None:
        return None, provenance
    return confidence_from_dict(confidence, origin, *hashes), provenance
