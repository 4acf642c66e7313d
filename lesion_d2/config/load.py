"""From a config file and overrides to a config, failing early and in one line."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from lesion_d2.config.checks import check_config
from lesion_d2.config.defaults import get_lesion_cfg
from lesion_d2.config.schedule import derive_schedule
from lesion_d2.errors import LesionError

# The model that comes with the package; MODEL.WEIGHTS and --bundle take it by this name.
PRETRAINED = "pretrained"
PRETRAINED_FILE = Path(__file__).parents[1] / "pretrained.onnx"
_KEYS = "keys are listed in lesion_d2/config/defaults.py and in Detectron2's config reference"


def load_config(config_file: str, opts: list[str]) -> CfgNode:
    """Read a config file, YAML, and apply overrides, alternating keys and values.

    ``MODEL.WEIGHTS pretrained`` is the model that comes with the package, whose config is
    ``configs/isic_mrcnn_lite.yaml``.

    Raises:
        LesionError: if the file is missing or a key or value does not fit.
    """
    if not Path(config_file).is_file():
        named = config_file or "(not given)"
        raise LesionError(f"--config-file: {named}: no such file; the project's are in configs/")
    cfg = get_lesion_cfg()
    try:
        cfg.merge_from_file(config_file, allow_unsafe=False)  # else YAML tags could run code
    except Exception as error:  # YAML and yacs raise a dozen types, with no base in common
        raise LesionError(f"{config_file}: {error}; {_KEYS}") from error
    merge_options(cfg, opts)
    if cfg.MODEL.WEIGHTS == PRETRAINED:
        cfg.MODEL.WEIGHTS = str(PRETRAINED_FILE)
    settle_device(cfg.MODEL.DEVICE)
    check_config(cfg)
    derive_schedule(cfg)
    return cfg


def merge_options(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Apply alternating keys and values to a config.

    Raises:
        LesionError: if a key is unknown or a value does not fit it.
    """
    if options := [opt for opt in map(str, opts) if opt.startswith("--")]:
        raise LesionError(f"{options[0]}: options stand before the first KEY VALUE; move it there")
    try:
        cfg.merge_from_list(list(opts))
    except Exception as error:  # as above
        raise LesionError(f"KEY VALUE: {error}; {_KEYS}") from error


def settle_device(name: str) -> str:
    """Return what ``MODEL.DEVICE`` is on this machine: for ``cuda`` the CPU where there is no GPU.

    The config is not changed: it may be used on another machine.

    Raises:
        LesionError: if it is a GPU that torch cannot compute on, or a device that is not here.
    """
    import torch  # an exported graph is run without it
    from detectron2.utils.logger import log_first_n

    if name == "cuda" and not torch.cuda.is_available():
        message = "MODEL.DEVICE is cuda but there is none here: using the CPU"
        log_first_n(logging.WARNING, message, key="message")
        name = "cpu"
    try:
        torch.empty(1, device=name).add_(1)  # only computing tells whether torch knows the GPU
    except Exception as error:  # torch raises anything for a device that it was built without
        reason = str(error).partition("\n")[0]
        remedy = (
            "give 'cpu', 'cuda' or 'cuda:N' with N below the number of GPUs; docs/install.md says "
            "which GPUs can be used"
        )
        raise LesionError(f"MODEL.DEVICE: {name!r} cannot be used ({reason}); {remedy}") from error
    return name
