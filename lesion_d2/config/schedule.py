"""The training schedule: stages in epochs, and what they mean in iterations."""

import math
from itertools import pairwise
from typing import NamedTuple

from yacs.config import CfgNode

from lesion_d2.errors import LesionError


class Stage(NamedTuple):
    """A part of the run with one set of frozen modules.

    ``end`` is the first iteration after it. ``freeze_at`` counts as Detectron2's
    ``MODEL.BACKBONE.FREEZE_AT``: 0 freezes nothing, 1 the stem, 2 also res2, up to 5 for res5.
    """

    end: int
    freeze_at: int


def stages_from_config(cfg: CfgNode) -> list[Stage]:
    """Return the stages of ``cfg.SOLVER.STAGES``, ends turned from epochs into iterations.

    Raises:
        LesionError: if the schedule is empty, its ends do not rise, or a FREEZE_AT is not in 0..5.
    """
    advice = "give (last epoch, FREEZE_AT) pairs such as ((5, 5), (30, 2))"
    stages: list[Stage] = []
    for entry in cfg.SOLVER.STAGES:
        if not isinstance(entry, (tuple, list)) or len(entry) != 2:
            raise LesionError(f"SOLVER.STAGES: {entry!r} is not a pair; {advice}")
        last_epoch, freeze_at = entry
        if not isinstance(last_epoch, (int, float)) or not 0 < last_epoch < math.inf:
            raise LesionError(f"SOLVER.STAGES: {last_epoch!r} is not a last epoch; {advice}")
        end = round(last_epoch * cfg.SOLVER.ITERS_PER_EPOCH)
        if end <= (stages[-1].end if stages else 0):
            raise LesionError(f"SOLVER.STAGES: the last epochs must rise, at {entry!r}; {advice}")
        if freeze_at not in range(6):
            raise LesionError(f"SOLVER.STAGES: FREEZE_AT {freeze_at!r} is not in 0..5; {advice}")
        stages.append(Stage(end, int(freeze_at)))
    if not stages:
        raise LesionError(f"SOLVER.STAGES: empty; {advice}")
    return stages


def stage_at(stages: list[Stage], iteration: int) -> Stage:
    """Return the stage that ``iteration`` belongs to; the last one from its start on."""
    return next((stage for stage in stages if iteration < stage.end), stages[-1])


def derive_schedule(cfg: CfgNode) -> None:
    """Fill the keys that follow from the schedule in epochs.

    ``FREEZE_AT`` becomes the least of all stages: what an evaluation may take as fixed.

    Raises:
        LesionError: if the schedule is wrong or a derived key was set to something else.
    """
    stages = stages_from_config(cfg)
    end = stages[-1].end
    steps = tuple(round(share * end) for share in cfg.SOLVER.LR_DROPS)
    if any(low >= high for low, high in pairwise((0, *steps, end))):
        raise LesionError(
            f"SOLVER.LR_DROPS: {cfg.SOLVER.LR_DROPS} mean drops at iterations {steps} of {end}; "
            "give shares of the run, rising, between 0 and 1"
        )
    derived = [
        (cfg.SOLVER, "MAX_ITER", end, 0),
        (cfg.SOLVER, "STEPS", steps, ()),
        (cfg.MODEL.BACKBONE, "FREEZE_AT", min(stage.freeze_at for stage in stages), -1),
    ]
    for node, key, value, unset in derived:
        if node[key] not in (unset, value):
            raise LesionError(
                f"{key}: set to {node[key]}, but SOLVER.STAGES, ITERS_PER_EPOCH and LR_DROPS give "
                f"{value}; change those and leave {key} at {unset}"
            )
        node[key] = value
    for node, key in ((cfg.SOLVER, "CHECKPOINT_PERIOD"), (cfg.TEST, "EVAL_PERIOD")):
        node[key] = node[key] or cfg.SOLVER.ITERS_PER_EPOCH
