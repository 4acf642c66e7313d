"""Box plot of the per-image IoU beside the published one of the original experiment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure

from lesion_d2.figures.style import FIRST_COLOUR, QUIET_COLOUR, SECOND_COLOUR, new_figure

# Read off the box plot of "ISICs 2018 Lesion Segmentation using Mask R-CNN", which also shows
# several images at 0.0; their number is not known, so the one point stands for them all.
ORIGINAL_STATISTICS: dict[str, Any] = {
    "med": 0.865,
    "q1": 0.82,
    "q3": 0.90,
    "whislo": 0.71,
    "whishi": 0.96,
    "mean": 0.85,
    "fliers": [0.0],
}


def boxplot_figure(max_iou: Sequence[float], summary: dict[str, Any]) -> Figure:
    """Draw our box and that of the original experiment.

    Whiskers reach to the last image within 1.5 times the interquartile range of the box.

    Args:
        max_iou: for each image the largest IoU over its predicted instances, in [0, 1], 0 where
            nothing was found; at least one.
        summary: the evaluation's metrics: ``dataset``, ``score_threshold``, ``mean_max_iou`` and
            its interval ``mean_max_iou_low``, ``mean_max_iou_high``.
    """
    values = np.asarray(max_iou, float)
    ours = boxplot_stats(values)[0]

    figure = new_figure(9, 7)
    ax = figure.subplots()
    boxes = ax.bxp(
        [ours, ORIGINAL_STATISTICS],
        positions=[1, 2],
        widths=0.4,
        showmeans=True,
        patch_artist=True,
        medianprops={"color": "black", "linewidth": 1.5},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black"},
        flierprops={"marker": "o", "markersize": 4, "markeredgecolor": QUIET_COLOUR},
    )
    for box, colour in zip(boxes["boxes"], (FIRST_COLOUR, SECOND_COLOUR), strict=True):
        box.set(facecolor=colour, alpha=0.6)
    for position, statistics in ((1, ours), (2, ORIGINAL_STATISTICS)):
        ax.text(
            position + 0.24,
            statistics["med"],
            f"median {statistics['med']:.3f}\nquartiles {statistics['q1']:.2f}"
            f" and {statistics['q3']:.2f}\nwhiskers {statistics['whislo']:.2f}"
            f" and {statistics['whishi']:.2f}\nmean {statistics['mean']:.3f}",
            va="center",
            fontsize=9,
        )
    ax.text(2.06, 0.0, "several images at 0.0", va="center", fontsize=9)
    ax.set_xticks(
        [1, 2],
        [
            f"{summary['dataset']}\n{len(values):,} images, {np.sum(values == 0):,} of them at 0.0",
            "original experiment\n(published figure; other images)",
        ],
    )
    ax.set(
        xlim=(0.6, 2.8),
        ylim=(-0.03, 1.03),
        ylabel="max IoU of an image",
        xlabel="box: quartiles; line: median; diamond: mean; "
        "whiskers: last image within 1.5 times the box",
    )
    ax.yaxis.set_ticks(np.linspace(0, 1, 11))
    ax.grid(axis="y", alpha=0.3)
    ax.set_title(
        f"{summary['dataset']}: max IoU of {len(values):,} images, "
        f"scores of {summary['score_threshold']:g} and above\n"
        f"mean {summary['mean_max_iou']:.3f} (95 % interval {summary['mean_max_iou_low']:.3f} to "
        f"{summary['mean_max_iou_high']:.3f})"
    )
    return figure
