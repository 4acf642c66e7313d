"""Checking a run before it starts, and setting up each of its processes."""

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from lesion_d2.config.defaults import get_lesion_cfg
from lesion_d2.config.load import load_config, settle_device
from lesion_d2.data.loader import check_members, describe_data
from lesion_d2.engine.checkpoint import check_resumable
from lesion_d2.engine.launch import check_device, count_processes
from lesion_d2.errors import LesionError, quiet_libraries
from lesion_d2.files import atomic_write, read_json, write_json
from lesion_d2.modeling import build_network
from lesion_d2.modeling.weights import check_trained_file, fetch_weights
from lesion_d2.prediction.confidence import read_confidence
from lesion_d2.prediction.segmenter import Segmenter

# What a checkpoint is of: with another value it cannot be continued.
_FIXED = (
    "MODEL.", "SOLVER.OPTIMIZER", "SOLVER.AMP.", "SOLVER.BIAS_LR_FACTOR",
    "SOLVER.WEIGHT_DECAY_NORM", "SOLVER.WEIGHT_DECAY_BIAS", "SOLVER.EMA_DECAY",
)  # fmt: skip
_FREE = (
    "MODEL.WEIGHTS", "MODEL.DEVICE", "MODEL.BACKBONE.FREEZE_AT", "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.RPN.PRE_NMS_TOPK_TEST",
    "MODEL.RPN.POST_NMS_TOPK_TEST",
)  # fmt: skip
# What a step is of: a run goes on with another value, and says so.
_STEPS = ("SEED", "INPUT.", "DATASETS.TRAIN", "SOLVER.")
_DERIVED = ("SOLVER.MAX_ITER", "SOLVER.STEPS")
_MOST_PARAMETERS = 10**9
DATA = "data.json"  # what the data sets of a run held

logger = logging.getLogger(__name__)


def check_run(args: argparse.Namespace, *, training: bool) -> None:
    """Check a training's, or an evaluation's, arguments, config, data and weights before it starts.

    Raises:
        LesionError: for whatever would fail later.
    """
    processes = count_processes(args)
    cfg = load_config(args.config_file, args.opts)
    check_device(settle_device(cfg.MODEL.DEVICE), processes)
    if cfg.SOLVER.IMS_PER_BATCH % processes:
        raise LesionError(
            f"SOLVER.IMS_PER_BATCH: {cfg.SOLVER.IMS_PER_BATCH} is not a multiple of the "
            f"{processes} processes"
        )
    if not training:
        check_evaluation(cfg, cfg.DATASETS.TEST)
        return
    folder = Path(cfg.OUTPUT_DIR)
    _check_settings(cfg)
    resumes = _check_resume(cfg, folder, args.resume)
    check_members(cfg.DATASETS.TRAIN, evaluation=False)
    if cfg.DATASETS.VAL:
        check_members(cfg.DATASETS.VAL, evaluation=True, truth_dir=cfg.TEST.TRUTH_DIR)
    if not resumes:
        fetch_weights(cfg.MODEL.WEIGHTS)


def check_evaluation(cfg: CfgNode, names: Sequence[str]) -> None:
    """Check what an evaluation of ``MODEL.WEIGHTS`` on data sets needs.

    Raises:
        LesionError: for whatever would fail later.
    """
    _check_settings(cfg)
    check_members(names, evaluation=True, truth_dir=cfg.TEST.TRUTH_DIR)
    check_trained_file(cfg.MODEL.WEIGHTS)


def _check_settings(cfg: CfgNode) -> None:
    _check_network(cfg)
    if cfg.TEST.TRUTH_DIR and not Path(cfg.TEST.TRUTH_DIR).is_dir():
        raise LesionError(f"TEST.TRUTH_DIR: {cfg.TEST.TRUTH_DIR}: no such folder; '' is none")
    if cfg.TEST.CONFIDENCE:
        read_confidence(cfg.TEST.CONFIDENCE)
    _check_writable(Path(cfg.OUTPUT_DIR))


def _check_network(cfg: CfgNode) -> None:
    """Build the network and all that predicts with it, without memory for the weights."""
    try:
        model = build_network(cfg, empty=True)
    except LesionError:
        raise
    except Exception as error:  # Detectron2 asserts, divides by zero, looks up what is not there
        raise LesionError(
            f"MODEL: no network can be built of these keys ({type(error).__name__}: {error}); "
            "compare with configs/Base-LesionRCNN.yaml"
        ) from error
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > _MOST_PARAMETERS:
        most = f"at most {_MOST_PARAMETERS:,} are built"
        raise LesionError(f"MODEL: the network would have {count:,} parameters; {most}")
    Segmenter(cfg, model)


def _holds_run(folder: Path) -> bool:
    return (folder / "last_checkpoint").exists() or any(folder.glob("model_*.pth"))


def _check_resume(cfg: CfgNode, folder: Path, resume: bool) -> bool:
    """Say whether a training continues what is in its folder."""
    if not _holds_run(folder):
        return False
    if not resume:
        raise LesionError(
            f"OUTPUT_DIR: {folder} holds a run already; pass --resume to continue it, or choose "
            "another OUTPUT_DIR"
        )
    check_resumable(folder)
    config_file = folder / "config.yaml"
    if config_file.is_file():
        before = get_lesion_cfg()
        try:
            before.merge_from_file(str(config_file), allow_unsafe=False)
        except Exception as error:  # YAML and yacs raise a dozen types
            raise LesionError(
                f"{config_file}: {error}; mend it, or remove it to continue without a comparison"
            ) from error
        _compare("", before, cfg)
    before, now = read_data(folder), _describe_data(cfg)
    changed = [name for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        raise LesionError(
            f"DATASETS: {', '.join(changed)}: is not what the run began with (other images, masks "
            "or split); convert it as it was then, or start anew in another OUTPUT_DIR"
        )
    return True


def _describe_data(cfg: CfgNode) -> dict[str, dict[str, Any]]:
    return describe_data([*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL])


def read_data(folder: Path) -> dict[str, Any]:
    """Return by name what the data sets of the training in a folder held; nothing if unknown.

    Raises:
        LesionError: if the file that says so cannot be read.
    """
    path = folder / DATA
    return read_json(path, "mend it, or remove it") if path.is_file() else {}


def _compare(key: str, before: Any, now: Any) -> None:
    if isinstance(now, dict):
        for name in now:
            _compare(f"{key}.{name}".lstrip("."), before[name], now[name])
    elif json.dumps(before) == json.dumps(now):  # lists and tuples are the same
        return
    elif key.startswith(_FIXED) and not key.startswith(_FREE):
        raise LesionError(
            f"{key}: the run has {before!r}, this command {now!r}: it cannot continue with that; "
            f"give {before!r}, or start anew in another OUTPUT_DIR"
        )
    elif key.startswith(_STEPS) and key not in _DERIVED:
        logger.warning("%s: the run had %r so far, it continues with %r", key, before, now)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise LesionError(
            f"OUTPUT_DIR: {folder}: cannot be written to ({error}); choose another folder"
        ) from error


def setup(args: argparse.Namespace, subfolder: str = "") -> CfgNode:
    """Build the frozen config of a run, and set up its folder, log and seeds.

    The folder is ``OUTPUT_DIR`` or a ``subfolder`` of it. All that is logged goes to log.txt; the
    terminal shows warnings and errors of it.
    """
    cfg = load_config(args.config_file, args.opts)
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR, subfolder))
    cfg.freeze()
    quiet_libraries()  # in this process, too
    rank = comm.get_rank()
    for name in ("detectron2", "fvcore", "lesion_d2"):
        to = {"enable_propagation": True, "configure_stdout": False}
        setup_logger(cfg.OUTPUT_DIR, rank, name=name, **to)
    console = logging.StreamHandler()
    # What is raised is shown once, as an error, by the tool.
    console.addFilter(lambda record: record.levelno >= logging.WARNING and not record.exc_info)
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[console])
    logger.info("Environment:\n%s", collect_env_info())
    logger.info("Command line: %s\nConfig:\n%s", args, cfg.dump())
    if comm.is_main_process():
        with atomic_write(Path(cfg.OUTPUT_DIR) / "config.yaml") as stream:
            stream.write(cfg.dump())
        if not subfolder:
            folder = Path(cfg.OUTPUT_DIR)
            before = read_data(folder) if _holds_run(folder) else {}
            write_json(folder / DATA, before | _describe_data(cfg))
    seed_all_rng(cfg.SEED + rank)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    return cfg
