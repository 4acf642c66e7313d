"""A trained model in one file: config, weights, confidence model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from lesion_d2.config.keys import get_lesion_cfg
from lesion_d2.config.load import merge_options, settle_device
from lesion_d2.errors import LesionError
from lesion_d2.files import atomic_write
from lesion_d2.prediction.confidence import ConfidenceModel, confidence_from_dict

BUNDLE_FORMAT = 1


def write_bundle(
    path: str | Path,
    cfg: CfgNode,
    model: nn.Module,
    confidence: ConfidenceModel | None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model with all that prediction needs.

    Args:
        path: of the file.
        cfg: the experiment's config, settings of prediction (``TEST``) included.
        model: with trained weights.
        confidence: fitted on validation; None leaves it out.
        dtype: that floating-point weights are stored as; they are computed with in float32.
    """
    state = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    content = {
        "format": BUNDLE_FORMAT,
        "config": cfg.dump(),
        "model": state,
        "confidence": confidence.to_dict() if confidence else None,
    }
    with atomic_write(path, "wb") as stream:
        torch.save(content, stream)


def read_bundle(
    path: str | Path, opts: Sequence[Any] = ()
) -> tuple[CfgNode, nn.Module, ConfidenceModel | None]:
    """Read what :func:`write_bundle` wrote, without running code from it.

    Args:
        path: of the file.
        opts: alternating config keys and values, applied over the bundle's config.

    Returns:
        config, model in evaluation mode on the config's device (the CPU where there is no GPU),
        confidence model if there is one.

    Raises:
        LesionError: if it is missing, damaged, or not a bundle.
    """
    advice = "give a file that tools/export.py wrote"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise LesionError(f"{path}: no such file; {advice}") from error
    except Exception as error:  # torch raises anything, depending on the damage
        raise LesionError(f"{path}: cannot be loaded without running code; {advice}") from error
    if not isinstance(content, dict) or content.get("format") != BUNDLE_FORMAT:
        raise LesionError(f"{path}: is not a bundle of format {BUNDLE_FORMAT}; {advice}")
    try:
        cfg = get_lesion_cfg()
        cfg.merge_from_other_cfg(CfgNode.load_cfg(content["config"]))
        merge_options(cfg, opts)
        settle_device(cfg)
        model = build_model(cfg)
        model.load_state_dict(content["model"])
    except LesionError:
        raise
    except Exception as error:  # a config of another version fails in as many ways as it has keys
        reason = str(error).strip().partition("\n")[0]
        raise LesionError(
            f"{path}: its config and weights do not fit ({reason}); {advice}"
        ) from error
    confidence = content.get("confidence")
    if confidence is not None:
        confidence = confidence_from_dict(confidence, str(path))
    return cfg, model.eval(), confidence
