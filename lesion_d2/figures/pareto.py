"""Speed against accuracy of several models, as points."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from lesion_d2.figures.style import CHART_DPI, FIRST_COLOUR, SECOND_COLOUR, new_figure


def pareto_figure(contenders: Mapping[str, Mapping[str, Any]], title: str) -> Figure:
    """Draw a numbered point for each contender with a Jaccard index, and its 95 % interval.

    ``contenders`` are those of a section of ``benchmark pareto``. Ours, which have a value of "both
    faster and better", are filled. Left is faster, up is better.
    """
    figure = new_figure(8.2, 4.2, CHART_DPI)
    figure.suptitle(title, fontsize=10)
    ax = figure.subplots()
    ax.set(xscale="log", xlabel="file to mask on disk, milliseconds an image (median)")
    ax.set(ylabel="mean Jaccard index (95 % interval)")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    ax.tick_params(axis="x", which="minor", labelsize=7)
    ax.grid(alpha=0.3, which="both")
    ax.spines[["top", "right"]].set_visible(False)
    drawn = {name: one for name, one in contenders.items() if "Jaccard" in one}
    for number, (name, one) in enumerate(drawn.items(), start=1):
        ours = "both faster and better" in one
        colour = FIRST_COLOUR if ours else SECOND_COLOUR
        milliseconds = 1000 * one["seconds_per_image"].median
        ax.errorbar(
            [milliseconds],
            [one["Jaccard"]],
            [[one["Jaccard"] - one["from"]], [one["to"] - one["Jaccard"]]],
            color=colour,
            marker="o" if ours else "D",
            markerfacecolor=colour if ours else "white",
            elinewidth=0.8,
            label=f"{number}  {name}",
        )
        ax.annotate(
            str(number),
            (milliseconds, one["Jaccard"]),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=8,
        )
    figure.legend(loc="outside right upper", frameon=False, fontsize=7)
    return figure
