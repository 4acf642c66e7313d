"""Each loss by epoch, training beside validation."""

from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lesion_d2.errors import LesionError
from lesion_d2.figures.style import (
    CHART_DPI,
    CHART_INCHES,
    FIRST_COLOUR,
    QUIET_COLOUR,
    SECOND_COLOUR,
    new_figure,
)
from lesion_d2.results.run import Schedule

LOSSES = {
    "total_loss": "Total",
    "loss_cls": "Class",
    "loss_box_reg": "Box",
    "loss_mask": "Mask",
    "loss_rpn_cls": "RPN class",
    "loss_rpn_loc": "RPN box",
}


def epoch_means(
    metrics: dict[int, dict[str, float]], schedule: Schedule, key: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs that hold ``key``, ascending from 1, and its mean over the lines of each.

    Both arrays have the shape (E,); ``metrics`` is iteration -> logged values.
    """
    by_epoch: dict[int, list[float]] = {}
    for iteration, values in sorted(metrics.items()):
        if key in values:
            by_epoch.setdefault(schedule.epoch(iteration), []).append(values[key])
    means = [float(np.mean(values)) for values in by_epoch.values()]
    return np.array(list(by_epoch), int), np.array(means, float)


def losses_figure(metrics: dict[int, dict[str, float]], schedule: Schedule, run: str) -> Figure:
    """Draw the six losses by epoch, with a line at each stage switch reached.

    ``metrics`` is that of :func:`lesion_d2.results.run.read_metrics`; ``run`` is the run's name.

    Raises:
        LesionError: the log holds no training loss.
    """
    trained = [iteration for iteration, values in metrics.items() if "total_loss" in values]
    if not trained:
        raise LesionError(f"{run}: metrics.json holds no total_loss; wait for the first lines")
    validated = any("val_total_loss" in values for values in metrics.values())
    done = max(trained) + 1

    figure = new_figure(CHART_INCHES[0], 6.6, CHART_DPI)
    axes = figure.subplots(3, 2, sharex=True)
    for ax, (key, name) in zip(axes.flat, LOSSES.items(), strict=True):
        points = epoch_means(metrics, schedule, key)
        ax.plot(*points, "o-", ms=4, color=FIRST_COLOUR, label="training")
        if validated:
            points = epoch_means(metrics, schedule, f"val_{key}")
            ax.plot(*points, "s--", ms=4, color=SECOND_COLOUR, label="validation")
        for (last, before), (_, after) in pairwise(schedule.stages):
            if done > last * schedule.iters_per_epoch:
                # An epoch's point stands for all of it: the epoch reaches half to each side.
                label = f"stage switch (FREEZE_AT {before} to {after})"
                ax.axvline(last + 0.5, color=QUIET_COLOUR, linestyle=":", label=label)
        ax.set_title(name, fontsize=11)
        ax.set(xlim=(0.4, schedule.epoch(done - 1) + 0.6), ylim=(0, 1.08 * ax.dataLim.y1))
        ax.grid(alpha=0.3)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    figure.supylabel("loss", fontsize="medium")

    length = f"{schedule.epochs} epochs of {schedule.iters_per_epoch:,} iterations"
    if done < schedule.max_iter:
        length = f"unfinished: {done:,} of {schedule.max_iter:,} iterations, {length}"
    figure.suptitle(
        f"Losses of {run}, mean over each epoch\n{length}"
        + ("" if validated else "\nno validation losses in metrics.json"),
        fontsize=10,
    )
    lines = axes.flat[0].lines
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure
