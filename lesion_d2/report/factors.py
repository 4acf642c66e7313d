"""Charts of what the IoU depends on."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lesion_d2.evaluation.failure_detection import FAILURE_IOU
from lesion_d2.figures.style import FIRST_COLOUR, new_chart
from lesion_d2.report.bins import Bin, bin_table, category_bins, mean_points, quantile_bins
from lesion_d2.report.charts import FAILURE_LINE, Chart, make_chart
from lesion_d2.report.facts import Facts

# More dots than this become one picture inside the chart.
MOST_DOTS = 2000
# Groups of the individual typology angle (Chardon et al., 1991): above so many degrees; dark below.
SKIN_TONES = {"very light": 55, "light": 41, "intermediate": 28, "tan": 10, "brown": -30}
FEW_IMAGES = 20  # of fewer, a group's mean says little


def factor_charts(jaccard: npt.NDArray[np.float64], facts: Sequence[Facts]) -> list[Chart]:
    """Return the IoU, shape (N,), in bins of what the ground truth says about the N images."""
    megapixels = [width * height / 1e6 for width, height in (f.original_size for f in facts)]
    contrasts = [fact.contrast for fact in facts if fact.contrast is not None]
    seen = [fact.contrast is not None for fact in facts]
    places = ("inside", "at the border")
    return [
        _chart(
            "IoU and lesion size",
            "area",
            "share of the image that is lesion (%)",
            quantile_bins([100 * fact.area_share for fact in facts], jaccard, ".1f"),
        ),
        _chart(
            "IoU and the image's border",
            "border",
            "where the annotated lesion is",
            category_bins([places[fact.at_border] for fact in facts], jaccard, places),
        ),
        _chart(
            "IoU and image size",
            "size",
            "size of the original image (megapixels)",
            quantile_bins(megapixels, jaccard, ".2g"),
        ),
        _chart(
            "IoU and colour contrast",
            "contrast",
            "colour difference of lesion and skin",
            quantile_bins(contrasts, jaccard[seen], ".0f"),
            "CIE 1976 distance of the mean colours inside the annotated outline and in a ring "
            "around it, a quarter of the lesion's radius wide; about 2 is just visible.",
        ),
        _skin_tones(jaccard, facts),
    ]


def skin_tone_group(angle: float) -> str:
    """Return the group of an individual typology angle in degrees."""
    return next((name for name, above in SKIN_TONES.items() if angle > above), "dark")


def _skin_tones(jaccard: npt.NDArray[np.float64], facts: Sequence[Facts]) -> Chart:
    groups = [skin_tone_group(f.skin_tone) for f in facts if f.skin_tone is not None]
    seen = [fact.skin_tone is not None for fact in facts]
    words = "; ".join(f"{name} above {above:g}" for name, above in SKIN_TONES.items())
    note = (
        "Individual typology angle (Chardon et al., 1991) of the skin's median colour in a ring "
        f"around the lesion, in degrees: {words}; dark below. Light and camera change it, too."
    )
    names = (*SKIN_TONES, "dark")
    counts = {name: groups.count(name) for name in names}
    if few := [f"{name} ({count})" for name, count in counts.items() if count < FEW_IMAGES]:
        note += f" Too few images to judge, below {FEW_IMAGES}: {', '.join(few)}."
    bins = category_bins(groups, jaccard[seen], names)
    return _chart("IoU and skin tone", "skin", "skin tone around the lesion", bins, note)


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
