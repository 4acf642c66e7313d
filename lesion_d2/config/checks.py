"""What each key may be: checked before any work, one line for a wrong one."""

from collections.abc import Callable
from math import isfinite
from operator import attrgetter
from typing import Any, NamedTuple

from yacs.config import CfgNode

from lesion_d2.config.defaults import FLIPS
from lesion_d2.errors import LesionError


class Rule(NamedTuple):
    """Which values fit, and how to say it after "give"."""

    fits: Callable[[Any], bool]
    words: str


def _number(low: float, high: float, *, above: bool = False) -> Rule:
    def fits(value: Any) -> bool:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (low < value if above else low <= value) and value <= high

    return Rule(fits, f"a number {'above' if above else 'from'} {low:g} to {high:g}")


def _integer(low: int, high: int) -> Rule:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return Rule(fits, f"a whole number from {low} to {high}")


def _one_of(*values: Any) -> Rule:
    # Not `in`: 1 is not True.
    return Rule(
        lambda value: any(value == v and type(value) is type(v) for v in values),
        ("one of " if len(values) > 1 else "") + ", ".join(map(repr, values)),
    )


def _several(rule: Rule, least: int = 1, most: int = 100) -> Rule:
    def fits(value: Any) -> bool:
        right = isinstance(value, (list, tuple)) and least <= len(value) <= most
        return right and all(map(rule.fits, value))

    count = f"{least}" if least == most else f"{least} to {most}"
    return Rule(fits, f"a list of {count}, each {rule.words}")


def _different(rule: Rule) -> Rule:
    several = _several(rule)
    return Rule(
        lambda value: several.fits(value) and len(set(value)) == len(value),
        f"{several.words}, none twice",
    )


def _range(rule: Rule) -> Rule:
    pair = _several(rule, 2, 2)
    return Rule(
        lambda value: pair.fits(value) and value[0] <= value[1],
        f"the smallest and the largest, each {rule.words}",
    )


_TEXT = Rule(lambda value: isinstance(value, str) and bool(value), "a name")
_SIDE = _integer(1, 8192)  # of an image, in pixels; memory grows with its square
_COUNT = _integer(1, 100_000)
_SHARE = _number(0, 1)
_ABOVE_0 = _number(0, 1e6, above=True)
_DECAY = _number(0, 1e3)
_ITERATIONS = _integer(0, 10**9)

RULES = {
    "SEED": _integer(0, 2**31 - 1),
    "OUTPUT_DIR": _TEXT,
    "MODEL.MASK_ON": _one_of(True),
    "MODEL.KEYPOINT_ON": _one_of(False),
    "MODEL.LOAD_PROPOSALS": _one_of(False),
    "MODEL.PIXEL_MEAN": _several(_number(0, 255), 3, 3),
    "MODEL.PIXEL_STD": _several(_number(0, 1e3, above=True), 3, 3),
    "MODEL.RESNETS.DEPTH": _one_of(18, 34, 50, 101, 152),
    "MODEL.FPN.OUT_CHANNELS": _integer(1, 8192),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _COUNT,
    "MODEL.RPN.POSITIVE_FRACTION": _SHARE,
    "MODEL.RPN.NMS_THRESH": _SHARE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": _COUNT,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": _COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": _COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TEST": _COUNT,
    "MODEL.ROI_HEADS.NUM_CLASSES": _one_of(1),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _COUNT,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": _SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": _SHARE,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": _SHARE,
    "INPUT.FORMAT": _one_of("BGR", "RGB"),
    "INPUT.MASK_FORMAT": _one_of("bitmask"),
    "INPUT.MIN_SIZE_TRAIN": _several(_SIDE),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": _one_of("choice", "range"),
    "INPUT.MAX_SIZE_TRAIN": _SIDE,
    "INPUT.MIN_SIZE_TEST": _integer(0, 8192),  # 0: as it is
    "INPUT.MAX_SIZE_TEST": _SIDE,
    "INPUT.RANDOM_FLIP": _one_of("none", "horizontal", "vertical"),
    "INPUT.MEMBER_FLIPS": _different(_one_of(*FLIPS)),
    "INPUT.MEMBER_FLIPS_VAL": _different(_one_of(*FLIPS)),
    "INPUT.COLOUR.BLUR_SIGMA": _range(_number(0, 100)),
    "INPUT.COLOUR.DROPOUT_COUNT": _range(_integer(0, 1000)),
    "INPUT.COLOUR.DROPOUT_SIDE": _range(_SHARE),
    "INPUT.COLOUR.BRIGHTNESS": _range(_number(-255, 255)),
    "INPUT.COLOUR.SHARPEN": _range(_SHARE),
    "INPUT.GEOMETRY.ROTATION": _range(_number(-360, 360)),
    "INPUT.GEOMETRY.ZOOM": _range(_number(0.1, 10)),
    "INPUT.GEOMETRY.SHIFT": _SHARE,
    "DATASETS.TRAIN": _several(_TEXT, 0),
    "DATASETS.VAL": _several(_TEXT, 0, 1),
    "DATASETS.TEST": _several(_TEXT, 0),
    "DATALOADER.NUM_WORKERS": _integer(0, 256),
    "SOLVER.OPTIMIZER": _one_of("SGD", "AdamW"),
    "SOLVER.IMS_PER_BATCH": _integer(1, 1024),
    "SOLVER.ITERS_PER_EPOCH": _integer(1, 10**7),
    "SOLVER.LR_SCHEDULER_NAME": _one_of(
        "WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"
    ),
    "SOLVER.LR_DROPS": _several(_number(0, 1), 0),
    "SOLVER.BASE_LR": _ABOVE_0,
    "SOLVER.BASE_LR_END": _number(0, 1e6),
    "SOLVER.BIAS_LR_FACTOR": _ABOVE_0,
    "SOLVER.GAMMA": _number(0, 1, above=True),
    "SOLVER.NUM_DECAYS": _integer(1, 1000),
    "SOLVER.EMA_DECAY": _number(0, 0.99999),
    "SOLVER.MOMENTUM": _number(0, 0.99999),
    "SOLVER.WEIGHT_DECAY": _DECAY,
    "SOLVER.WEIGHT_DECAY_NORM": _DECAY,
    "SOLVER.WEIGHT_DECAY_BIAS": Rule(
        lambda value: value is None or _DECAY.fits(value), f"None or {_DECAY.words}"
    ),
    "SOLVER.WARMUP_FACTOR": _SHARE,
    "SOLVER.WARMUP_ITERS": _ITERATIONS,
    "SOLVER.WARMUP_METHOD": _one_of("linear", "constant"),
    "SOLVER.CHECKPOINT_PERIOD": _ITERATIONS,  # 0: an epoch
    "SOLVER.CHECKPOINTS_KEPT": _integer(1, 10_000),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": _one_of("norm", "value"),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _ABOVE_0,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": _ABOVE_0,
    "TEST.EVAL_PERIOD": _ITERATIONS,  # 0: an epoch
    "TEST.LOSS_IMAGES": _ITERATIONS,
    "TEST.DETECTIONS_PER_IMAGE": _integer(1, 1000),
    "TEST.SCORE_THRESH": _SHARE,
    "TEST.PRECISION": _TEXT,
    "TEST.VIEWS": _different(_TEXT),
    "TEST.VIEW_SCALES": _different(_number(0.1, 10)),
    "TEST.SECOND_LOOK": _number(0, 10),
    "TEST.INSTANCE_CHOICE": _TEXT,
    "TEST.POSTPROCESSING": _several(_TEXT),
    # Detectron2's keys that nothing here reads.
    "DATALOADER.SAMPLER_TRAIN": _one_of("TrainingSampler"),
    "INPUT.CROP.ENABLED": _one_of(False),
    "SOLVER.REFERENCE_WORLD_SIZE": _one_of(0),
    "TEST.AUG.ENABLED": _one_of(False),
    "TEST.EXPECTED_RESULTS": Rule(lambda value: not value, "()"),
    "TEST.PRECISE_BN.ENABLED": _one_of(False),
}


def check_config(cfg: CfgNode) -> None:
    """Check the keys that training, evaluation, validation, prediction and saving use.

    Names of views, steps and parts of the network are checked where they are built.

    Raises:
        LesionError: for the first key whose value cannot be; it says what it may be.
    """
    for key, rule in RULES.items():
        _demand(rule.fits(attrgetter(key)(cfg)), cfg, key, rule.words)
    for key, value in _leaves(cfg.MODEL, "MODEL"):
        if isinstance(value, (int, float)):
            # Also for its own sake: a size that no memory holds.
            _demand(isfinite(value) and abs(value) <= 1e6, cfg, key, "a number up to 1e6")
    sides, clip = cfg.INPUT.MIN_SIZE_TRAIN, cfg.SOLVER.CLIP_GRADIENTS
    fits = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "choice" or len(sides) == 2
    words = "'choice', or two sides in INPUT.MIN_SIZE_TRAIN"
    _demand(fits, cfg, "INPUT.MIN_SIZE_TRAIN_SAMPLING", words)
    fits = cfg.SOLVER.BASE_LR_END <= cfg.SOLVER.BASE_LR
    _demand(fits, cfg, "SOLVER.BASE_LR_END", "at most SOLVER.BASE_LR")
    fits = not clip.ENABLED or clip.CLIP_TYPE == "norm"
    words = "'norm'; 'value' fails on frozen parameters"
    _demand(fits, cfg, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", words)


def _demand(fits: bool, cfg: CfgNode, key: str, words: str) -> None:
    if not fits:
        raise LesionError(f"{key}: {attrgetter(key)(cfg)!r} cannot be; give {words}")


def _leaves(node: Any, key: str) -> list[tuple[str, Any]]:
    """Return the full key and the value of each number or text below a config node."""
    if isinstance(node, dict):
        return [leaf for name, child in node.items() for leaf in _leaves(child, f"{key}.{name}")]
    if isinstance(node, (list, tuple)):
        return [(key, value) for child in node for _, value in _leaves(child, key)]
    return [(key, node)]
