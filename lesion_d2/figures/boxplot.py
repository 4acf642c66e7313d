"""Box plot of the per-image IoU beside the published one of the original experiment."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure

from lesion_d2.figures.style import FIRST_COLOUR, QUIET_COLOUR, SECOND_COLOUR, new_chart

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


def boxplot_figure(max_iou: npt.ArrayLike, summary: dict[str, Any]) -> Figure:
    """Draw our box and the original experiment's.

    Whiskers reach to the last image within 1.5 times the interquartile range of the box.
    ``max_iou``, shape (N,), is the column of an evaluation, and ``summary`` its metrics.
    """
    values = np.asarray(max_iou, float)
    drawn = [boxplot_stats(values)[0], ORIGINAL_STATISTICS]
    mean, low, high = (summary[f"mean_max_iou{end}"] for end in ("", "_low", "_high"))
    figure, ax = new_chart(
        f"{summary['dataset']}: max IoU of {len(values):,} images\n"
        f"Scores of {summary['score_threshold']:g} and above, mean {mean:.3f} "
        f"(95 % interval {low:.3f} to {high:.3f})",
        xlim=(0.75, 3),
        ylim=(-0.03, 1.03),
        ylabel="max IoU of an image",
        yticks=np.linspace(0, 1, 11),
    )
    boxes = ax.bxp(
        drawn,
        positions=[1, 2.1],
        widths=0.3,
        showmeans=True,
        patch_artist=True,
        medianprops={"color": "black", "linewidth": 1.5},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black"},
        flierprops={"marker": "o", "markersize": 4, "markeredgecolor": QUIET_COLOUR},
    )
    for box, colour in zip(boxes["boxes"], (FIRST_COLOUR, SECOND_COLOUR), strict=True):
        box.set(facecolor=colour, alpha=0.6)
    for place, box in zip((1, 2.1), drawn, strict=True):
        ax.text(
            place + 0.2,
            box["med"],
            f"median {box['med']:.3f}\nmean {box['mean']:.3f}\nquartiles {box['q1']:.2f}, "
            f"{box['q3']:.2f}\nwhiskers {box['whislo']:.2f}, {box['whishi']:.2f}",
            va="center",
            fontsize=8,
        )
    ax.text(2.16, 0, "several images at 0.0", va="center", fontsize=8)
    ours = f"{len(values):,} images, {np.sum(values == 0):,} of them at 0.0"
    ax.set_xticks(
        [1, 2.1],
        [f"{summary['dataset']}\n{ours}", "original experiment\n(published; other images)"],
        fontsize=9,
    )
    ax.grid(False, axis="x")
    return figure
