"""The sizes of the original images, and which of them the resize rule shrinks."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from lesion_d2.convert.pair import ORIGINAL_PIXELS
from lesion_d2.figures.style import FIRST_COLOUR, QUIET_COLOUR, SECOND_COLOUR, new_chart

LABELLED_SIZES = 4
TICKS = (200, 300, 500, 700, 1000, 1500, 2000, 3000, 4000, 6000, 8000)


def resolutions_figure(sizes: Sequence[tuple[int, int]], dataset: str) -> Figure:
    """Draw one disc for each original size, its area growing with the number of images.

    ``sizes`` are (width, height) of each original image, in pixels; at least one.
    """
    counts = Counter(sizes).most_common()
    widths, heights = np.array([size for size, _ in counts]).T
    images = np.array([count for _, count in counts])
    above = widths * heights > ORIGINAL_PIXELS
    low = min(widths.min(), heights.min(), 600) / 1.25
    x_limits = (low, max(widths.max(), 900) * 1.8)
    # On logarithmic axes the rule is a straight line and the small sizes do not crowd.
    figure, ax = new_chart(
        f"{dataset}: resolutions of the {len(sizes):,} original images\n"
        f"(different sizes: {len(counts):,}; area of a disc: number of images)",
        **{"xscale": "log", "yscale": "log"},
        xlim=x_limits,
        ylim=(low, max(heights.max(), 900) * 1.4),
        xlabel="width of the original (pixels)",
        ylabel="height of the original (pixels)",
    )
    for chosen, colour, label in (
        (above, SECOND_COLOUR, "more than 700 x 700 pixels"),
        (~above, FIRST_COLOUR, "at most 700 x 700 pixels"),
    ):
        areas = 25 + 900 * images[chosen] / images.sum()
        ax.scatter(
            widths[chosen], heights[chosen], areas, color=colour, alpha=0.6, edgecolors="black"
        )
        # An empty line for the legend, whose disc would else have the size of the data's.
        ax.plot([], [], "o", color=colour, label=f"{label}: {images[chosen].sum():,} images")
    for (width, height), count in counts[:LABELLED_SIZES]:
        side = 1 if width >= height else -1
        ax.annotate(
            f"{width} x {height}: {count:,}",
            (width, height),
            xytext=(18 * side, -18 * side),
            ha="left" if side > 0 else "right",
            textcoords="offset points",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": QUIET_COLOUR},
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    rule = np.geomspace(*x_limits, 50)
    label = f"width x height = {ORIGINAL_PIXELS:,}"
    ax.plot(rule, ORIGINAL_PIXELS / rule, "--", color=QUIET_COLOUR, label=label)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FixedLocator(TICKS))
        axis.set_major_formatter("{x:.0f}")
        axis.set_minor_locator(NullLocator())
    ax.tick_params(labelsize="small")
    ax.legend(loc="upper left", fontsize="small")
    return figure
