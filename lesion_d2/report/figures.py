"""The report's charts. Titles are left to the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lesion_d2.evaluation.failure_detection import REVIEWED_SHARE
from lesion_d2.evaluation.statistics import FAILURE_IOU
from lesion_d2.figures.style import FIRST_COLOUR, QUIET_COLOUR, SECOND_COLOUR, new_figure
from lesion_d2.report.bins import Bin

# Half a page's width on a screen, all of it on a phone: text stays legible on both.
WIDTH, HEIGHT = 4.9, 3.6
# More dots than this become one picture inside the chart.
MOST_DOTS = 2000


def _chart(**properties: Any) -> tuple[Figure, Axes]:
    figure = new_figure(WIDTH, HEIGHT)
    ax = figure.subplots()
    ax.set(**properties)
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def _failure_line(ax: Axes, vertical: bool) -> None:
    line = ax.axvline if vertical else ax.axhline
    line(FAILURE_IOU, color=QUIET_COLOUR, linestyle=":", label=f"{FAILURE_IOU:g}")


def histogram_figure(jaccard: npt.NDArray[np.float64]) -> Figure:
    """Draw how many images have which IoU, in bins of 0.05."""
    figure, ax = _chart(xlabel="Jaccard index of the submitted mask", ylabel="images", xlim=(0, 1))
    edges = np.linspace(0, 1, 21).tolist()
    ax.hist(jaccard, edges, color=FIRST_COLOUR, edgecolor="white", linewidth=0.5)
    _failure_line(ax, vertical=True)
    ax.xaxis.set_ticks(np.linspace(0, 1, 11))
    return figure


def cumulative_figure(scores: dict[str, npt.NDArray[np.float64]]) -> Figure:
    """Draw which share of the images has at most which IoU.

    Args:
        scores: one or two; label -> values in [0, 1].
    """
    figure, ax = _chart(xlabel="IoU", ylabel="share of images at or below", xlim=(0, 1))
    styles = ((FIRST_COLOUR, "-"), (SECOND_COLOUR, "--"))
    for (label, values), (colour, line) in zip(scores.items(), styles, strict=False):
        ax.ecdf(values, color=colour, linestyle=line, label=label)
    _failure_line(ax, vertical=True)
    ax.xaxis.set_ticks(np.linspace(0, 1, 11))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", frameon=False)
    return figure


def bins_figure(bins: Sequence[Bin], xlabel: str) -> Figure:
    """Draw each bin's images as dots, in their order, and the mean with its interval."""
    figure, ax = _chart(xlabel=xlabel, ylabel="Jaccard index", ylim=(-0.03, 1.03))
    rasterized = sum(len(b.values) for b in bins) > MOST_DOTS
    for place, b in enumerate(bins):
        spread = place + np.linspace(-0.36, 0.36, len(b.values) + 2)[1:-1]
        (dots,) = ax.plot(spread, b.values, "o", color=FIRST_COLOUR, alpha=0.35)
        dots.set(markersize=3, markeredgewidth=0, rasterized=rasterized)
    _mean_points(ax, range(len(bins)), bins)
    _failure_line(ax, vertical=False)
    ax.set_xticks(range(len(bins)), [f"{b.label}\nn = {len(b.values):,}" for b in bins], fontsize=9)
    ax.grid(False, axis="x")
    ax.set_xlim(-0.6, len(bins) - 0.4)
    return figure


def _mean_points(ax: Axes, places: Sequence[float], bins: Sequence[Bin]) -> None:
    means = np.array([b.mean for b in bins])
    errors = np.abs(np.array([(b.low, b.high) for b in bins]).T - means)
    ax.errorbar(places, means, errors, fmt="D", color=SECOND_COLOUR, capsize=4, markersize=5)


def reliability_figure(bins: Sequence[Bin], xlabel: str) -> Figure:
    """Draw the mean IoU of each bin over the mean of what the model said, beside the diagonal."""
    figure, ax = _chart(xlabel=xlabel, ylabel="mean Jaccard index")
    _mean_points(ax, [b.place for b in bins], bins)
    low = min(min(b.low, b.place) for b in bins)
    start = np.floor(10 * max(0, low - 0.02)) / 10
    ax.plot([start, 1], [start, 1], "--", color=QUIET_COLOUR, label="equal")
    ax.set(xlim=(start, 1.01), ylim=(start, 1.01))
    ax.legend(loc="upper left", frameon=False)
    return figure


def review_figure(share: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> Figure:
    """Draw the share of failures found over the share of images looked at.

    Args:
        share: ascending from 0 to 1, shape (N + 1,).
        found: likewise.
    """
    figure, ax = _chart(
        xlabel="images sent to a human, the least sure first",
        ylabel=f"images below {FAILURE_IOU:g} among them",
    )
    ax.plot(share, found, color=FIRST_COLOUR, label="by this order")
    ax.plot([0, 1], [0, 1], "--", color=QUIET_COLOUR, label="at random")
    ax.axvline(REVIEWED_SHARE, color=QUIET_COLOUR, linestyle=":")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(loc="lower right", frameon=False)
    return figure
