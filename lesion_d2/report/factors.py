"""Charts of what the IoU depends on."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lesion_d2.evaluation.failure_detection import FAILURE_IOU
from lesion_d2.figures.style import FIRST_COLOUR, new_chart
from lesion_d2.report.bins import MOST_BINS, Bin, category_bins, quantile_bins
from lesion_d2.report.charts import (
    FAILURE_LINE,
    Chart,
    bin_table,
    in_range,
    make_chart,
    mean_points,
)
from lesion_d2.report.facts import Facts

# More dots than this become one picture inside the chart.
MOST_DOTS = 2000
# Groups of the individual typology angle (Chardon et al., 1991): above so many degrees; dark below.
SKIN_TONES = {
    "very light": 55.0,
    "light": 41.0,
    "intermediate": 28.0,
    "tan": 10.0,
    "brown": -30.0,
}
FEW_IMAGES = 20  # of fewer, a group's mean says little


def factor_charts(jaccard: npt.NDArray[np.float64], facts: Sequence[Facts]) -> list[Chart]:
    """Return the IoU in bins of what the ground truth says about the images.

    Args:
        jaccard: of each image, shape (N,).
        facts: of each image.
    """
    sizes = [fact.original_size for fact in facts]
    unit = "pixels" if len(set(sizes)) <= MOST_BINS else "megapixels"
    seen = [number for number, fact in enumerate(facts) if fact.contrast is not None]
    borders = [fact.at_border for fact in facts]
    return [
        _chart(
            "IoU and lesion size",
            "area",
            "share of the image that is lesion (%)",
            quantile_bins([100 * fact.area_share for fact in facts], jaccard, in_range(".1f")),
        ),
        _chart(
            "IoU and the image's border",
            "border",
            "where the annotated lesion is",
            category_bins(borders, jaccard, {False: "inside", True: "at the border"}),
        ),
        _chart(
            "IoU and image size",
            "size",
            f"size of the original image ({unit})",
            _size_bins(sizes, jaccard),
        ),
        _chart(
            "IoU and colour contrast",
            "contrast",
            "colour difference of lesion and skin",
            quantile_bins(
                [facts[number].contrast or 0 for number in seen], jaccard[seen], in_range(".0f")
            ),
            "CIE 1976 distance of the mean colours inside the annotated outline and in a ring "
            "around it, a quarter of the lesion's radius wide; about 2 is just visible.",
        ),
        _skin_tones(jaccard, facts),
    ]


def skin_tone_group(angle: float) -> str:
    """Return the group of an individual typology angle in degrees."""
    return next((name for name, above in SKIN_TONES.items() if angle > above), "dark")


def _skin_tones(jaccard: npt.NDArray[np.float64], facts: Sequence[Facts]) -> Chart:
    seen = [number for number, fact in enumerate(facts) if fact.skin_tone is not None]
    groups = [skin_tone_group(facts[number].skin_tone or 0.0) for number in seen]
    words = "; ".join(f"{name} above {above:g}" for name, above in SKIN_TONES.items())
    note = (
        "Individual typology angle (Chardon et al., 1991) of the skin's median colour in a ring "
        f"around the lesion, in degrees: {words}; dark below. Light and camera change it, too."
    )
    names = (*SKIN_TONES, "dark")
    counts = {name: groups.count(name) for name in names}
    if few := [f"{name} ({count})" for name, count in counts.items() if count < FEW_IMAGES]:
        note += f" Too few images to judge, below {FEW_IMAGES}: {', '.join(few)}."
    bins = category_bins(groups, jaccard[seen], {name: name for name in names})
    return _chart("IoU and skin tone", "skin", "skin tone around the lesion", bins, note)


def _size_bins(sizes: Sequence[tuple[int, int]], jaccard: npt.NDArray[np.float64]) -> list[Bin]:
    kinds = sorted(set(sizes), key=lambda size: (size[0] * size[1], size))
    if len(kinds) <= MOST_BINS:
        return category_bins(sizes, jaccard, {(w, h): f"{w}x{h}" for w, h in kinds})
    megapixels = [width * height / 1e6 for width, height in sizes]
    return quantile_bins(megapixels, jaccard, in_range(".2g"))


def _chart(title: str, name: str, what: str, bins: Sequence[Bin], note: str = "") -> Chart:
    return make_chart(bins_figure(title, what, bins), name, note, *bin_table(bins, what))


def bins_figure(title: str, what: str, bins: Sequence[Bin]) -> Figure:
    """Draw each bin's images as dots, in their order, and the mean with its interval."""
    figure, ax = new_chart(title, xlabel=what, ylabel="Jaccard index", ylim=(-0.03, 1.03))
    rasterized = sum(len(b.values) for b in bins) > MOST_DOTS
    for place, b in enumerate(bins):
        spread = place + np.linspace(-0.36, 0.36, len(b.values) + 2)[1:-1]
        (dots,) = ax.plot(spread, b.values, "o", color=FIRST_COLOUR, alpha=0.35)
        dots.set(markersize=3, markeredgewidth=0, rasterized=rasterized)
    if bins:
        mean_points(ax, range(len(bins)), bins)
    ax.axhline(FAILURE_IOU, **FAILURE_LINE)
    labels = [f"{b.label}\nn = {len(b.values):,}" for b in bins]
    ax.set_xticks(range(len(bins)), labels, fontsize=9)
    ax.grid(False, axis="x")
    ax.set_xlim(-0.6, len(bins) - 0.4)
    return figure
