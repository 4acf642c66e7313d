"""A training run's folder, read: the one place that knows its files."""

import json
import logging
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fvcore.common.config import CfgNode
from yaml import YAMLError  # type: ignore[import-untyped]

from lesion_d2.errors import LesionError
from lesion_d2.files import read_json

logger = logging.getLogger(__name__)

CONFIG, LOG = "config.yaml", "metrics.json"
REMEDY = "name the OUTPUT_DIR of a run of tools/train_net.py"


@dataclass(frozen=True)
class Schedule:
    """How iterations map to epochs.

    Attributes:
        iters_per_epoch: iterations in an epoch.
        max_iter: iterations in the whole run.
        stages: (last epoch, FREEZE_AT) of each stage; a last epoch may lie inside one.
    """

    iters_per_epoch: int
    max_iter: int
    stages: tuple[tuple[float, int], ...]

    @property
    def epochs(self) -> int:
        """Epochs in the whole run, a last partial one counted."""
        return -(-self.max_iter // self.iters_per_epoch)

    def epoch(self, iteration: int) -> int:
        """Return the epoch, from 1, of a zero-based iteration.

        ``max_iter``, which what is evaluated after training carries, belongs to the last epoch.
        """
        return min(iteration, self.max_iter - 1) // self.iters_per_epoch + 1


def find_run(eval_dir: Path) -> Path | None:
    """Return the run that ``eval_dir`` lies in as ``RUN/eval/NAME``, None if it is none.

    A run that did not make the weights is not theirs: these lay in a folder of its name, or, if it
    was renamed since, are in it.

    Raises:
        LesionError: if the evaluation's ``metrics.json`` is no JSON.
    """
    run_dir = eval_dir.absolute().parent.parent
    if not (run_dir / CONFIG).is_file() or not (run_dir / LOG).is_file():
        return None
    summary = read_json(eval_dir / "metrics.json", REMEDY)
    weights = Path(summary.get("weights") or run_dir / "model_best.pth").absolute()
    if weights.parent.name == run_dir.name:
        return run_dir
    own = run_dir / weights.name
    same = own.is_file() and sha256(own.read_bytes()).hexdigest() == summary.get("weights_sha256")
    return run_dir if same else None


def read_config(run_dir: Path) -> str:
    """Return the text of the run's ``config.yaml``; raise a LesionError if it cannot be read."""
    try:
        return (run_dir / CONFIG).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LesionError(
            f"{run_dir / CONFIG}: cannot be read ({error.strerror}); {REMEDY}"
        ) from error


def read_schedule(run_dir: Path) -> Schedule:
    """Return the schedule in the run's ``config.yaml``.

    Raises:
        LesionError: no such file, or no usable schedule in it.
    """
    path = run_dir / CONFIG
    if not path.is_file():
        raise LesionError(f"{path}: not found; {REMEDY}")
    try:
        solver = CfgNode.load_yaml_with_base(str(path))["SOLVER"]
        stages = tuple((float(last), int(freeze_at)) for last, freeze_at in solver["STAGES"])
        return Schedule(int(solver["ITERS_PER_EPOCH"]), int(solver["MAX_ITER"]), stages)
    except (KeyError, TypeError, ValueError, YAMLError) as error:
        raise LesionError(f"{path}: not the config of a run ({error!r}); {REMEDY}") from error


def read_metrics(run_dir: Path) -> dict[int, dict[str, float]]:
    """Return what ``metrics.json`` holds, by iteration, in the order of iterations.

    A resumed run repeats iterations: the last value written wins. A line that a crash cut short
    is left out with a warning.

    Raises:
        LesionError: no such file, or nothing in it.
    """
    path = run_dir / LOG
    if not path.is_file():
        raise LesionError(f"{path}: not found; {REMEDY}")
    metrics: dict[int, dict[str, float]] = {}
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                values = json.loads(line)
            except ValueError:
                values = None
            if isinstance(values, dict) and "iteration" in values:
                metrics.setdefault(int(values["iteration"]), {}).update(values)
            else:
                logger.warning("%s: line %d left out, it is not complete", path, number)
    if not metrics:
        raise LesionError(f"{path}: holds no line yet; wait for the run's first lines")
    return dict(sorted(metrics.items()))
