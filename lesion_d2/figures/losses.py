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
    """Return the epochs that hold ``key``, and its mean over the lines of each.

    Args:
        metrics: iteration -> logged values.
        schedule: maps iterations to epochs.
        key: such as ``loss_mask`` or ``val_loss_mask``.

    Returns:
        Epochs from 1 (int, shape (E,)), ascending, and means (float, shape (E,)).
    """
    by_epoch: dict[int, list[float]] = {}
    for iteration, values in sorted(metrics.items()):
        if key in values:
            by_epoch.setdefault(schedule.epoch(iteration), []).append(values[key])
    means = [float(np.mean(values)) for values in by_epoch.values()]
    return np.array(list(by_epoch), int), np.array(means, float)


def losses_figure(metrics: dict[int, dict[str, float]], schedule: Schedule, run: str) -> Figure:
    """Draw the six losses by epoch, with a line at each stage switch reached.

    Args:
        metrics: iteration -> logged values, see
            :func:`lesion_d2.results.run.read_metrics`.
        schedule: maps iterations to epochs.
        run: the run's name, for the title.

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
        ax.plot(*epoch_means(metrics, schedule, key), "o-", color=FIRST_COLOUR, label="training")
        if validated:
            points = epoch_means(metrics, schedule, f"val_{key}")
            ax.plot(*points, "s--", color=SECOND_COLOUR, label="validation")
        for (last, before), (_, after) in pairwise(schedule.stages):
            if done > last * schedule.iters_per_epoch:
                # An epoch's point stands for all of it: the epoch reaches half to each side.
                label = f"stage switch (FREEZE_AT {before} to {after})"
                ax.axvline(last + 0.5, color=QUIET_COLOUR, linestyle=":", label=label)
        for line in ax.lines:
            line.set_markersize(4)
        ax.set_title(name, fontsize=11)
        ax.set_ylim(0, 1.08 * ax.dataLim.y1)
        ax.grid(alpha=0.3)
        ax.set_xlim(0.4, schedule.epoch(done - 1) + 0.6)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    for ax in axes[:, 0]:
        ax.set_ylabel("loss")

    length = f"{schedule.epochs} epochs of {schedule.iters_per_epoch:,} iterations"
    if done < schedule.max_iter:
        length = f"unfinished: {done:,} of {schedule.max_iter:,} iterations, {length}"
    figure.suptitle(
        f"Losses of {run}, mean over each epoch\n{length}"
        + ("" if validated else "\nno validation losses in metrics.json"),
        fontsize=10,
    )
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize="small"
    )
    return figure
