"""The page's charts: which there are, what they say, and the numbers below them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure

from lesion_d2.evaluation.evaluation import Evaluation
from lesion_d2.evaluation.failure_detection import failure_detection
from lesion_d2.evaluation.statistics import FAILURE_IOU
from lesion_d2.figures.boxplot import ORIGINAL_STATISTICS, boxplot_figure
from lesion_d2.figures.losses import losses_figure
from lesion_d2.report.bins import MOST_BINS, Bin, category_bins, quantile_bins
from lesion_d2.report.facts import Facts
from lesion_d2.report.figures import (
    WIDTH,
    bins_figure,
    cumulative_figure,
    histogram_figure,
    reliability_figure,
    review_figure,
)
from lesion_d2.report.svg import inline_svg
from lesion_d2.results.run import read_metrics, read_schedule

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Chart:
    """A chart with its text.

    Attributes:
        title: what it shows.
        svg: the chart.
        note: what a reader has to know.
        head: names of the columns of the table below the chart.
        rows: its cells.
    """

    title: str
    svg: Markup
    note: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=list)


def losses_chart(run_dir: Path) -> Chart:
    """Return the losses by epoch of a run."""
    name = run_dir.resolve().name
    figure = losses_figure(read_metrics(run_dir), read_schedule(run_dir), name, columns=2)
    figure.set_size_inches(5.4, 6.6)
    title, _, note = figure.get_suptitle().partition("\n")
    figure.suptitle("")
    return Chart(title, inline_svg(figure, "losses", title), note)


def distribution_charts(evaluation: Evaluation) -> list[Chart]:
    """Return the box plot, the histogram and the cumulative curve of the IoU."""
    table = evaluation.table
    jaccard = table["jaccard"]
    below = int((jaccard < FAILURE_IOU).sum())
    counts, edges = np.histogram(jaccard, np.linspace(0, 1, 21))
    scores = {"Jaccard of the submitted mask": jaccard, "max IoU": table["max_iou"]}
    levels = np.linspace(0.1, 1, 10)
    return [
        _boxplot_chart(evaluation),
        _chart(
            "Histogram of the Jaccard index",
            histogram_figure(jaccard),
            "histogram",
            f"{below:,} of {len(jaccard):,} images are below {FAILURE_IOU:g} (dotted line).",
            ("from", "to", "images"),
            [
                (f"{start:.2f}", f"{end:.2f}", f"{count:,}")
                for start, end, count in zip(edges, edges[1:], counts, strict=False)
            ],
        ),
        _chart(
            "Cumulative share of the images",
            cumulative_figure(scores),
            "cumulative",
            "The lower a curve, the better.",
            ("at or below", *scores),
            [
                (f"{level:.1f}", *(f"{np.mean(s <= level):.1%}" for s in scores.values()))
                for level in levels
            ],
        ),
    ]


def _boxplot_chart(evaluation: Evaluation) -> Chart:
    values = evaluation.table["max_iou"]
    figure = boxplot_figure(list(values), evaluation.summary)
    figure.set_size_inches(WIDTH, 4.4)
    (ax,) = figure.axes
    for text in ax.texts[:2]:  # the statistics, for which there is the table
        text.remove()
    title, explanation = ax.get_title().replace("\n", "; "), ax.get_xlabel()
    ax.tick_params("x", labelsize="small")
    ax.set(title="", xlabel="", xlim=(0.6, 2.75))
    ours = boxplot_stats(values)[0]
    names = {
        **{"mean": "mean", "med": "median", "q1": "lower quartile", "q3": "upper quartile"},
        **{"whislo": "lower whisker", "whishi": "upper whisker"},
    }
    rows = [
        (name, f"{ours[key]:.3f}", f"{ORIGINAL_STATISTICS[key]:.3f}") for key, name in names.items()
    ]
    head = ("", "this evaluation", "original experiment")
    return _chart(
        "Max IoU beside the original experiment's",
        figure,
        "boxplot",
        f"{title}. {explanation}.",
        head,
        rows,
    )


def factor_charts(jaccard: npt.NDArray[np.float64], facts: Sequence[Facts]) -> list[Chart]:
    """Return the IoU in bins of what the ground truth says about the images.

    Args:
        jaccard: of each image, shape (N,).
        facts: of each image.
    """
    sizes = [fact.original_size for fact in facts]
    unit = "pixels" if len(set(sizes)) <= MOST_BINS else "megapixels"
    seen = [number for number, fact in enumerate(facts) if fact.contrast is not None]
    borders = category_bins(
        [fact.at_border for fact in facts], jaccard, {False: "inside", True: "at the border"}
    )
    return [
        _bins_chart(
            "IoU and lesion size",
            quantile_bins([100 * fact.area_share for fact in facts], jaccard, _range(".1f")),
            "area",
            "share of the image that is lesion (%)",
        ),
        _bins_chart(
            "IoU and the image's border", borders, "border", "where the annotated lesion is"
        ),
        _bins_chart(
            "IoU and image size",
            _size_bins(sizes, jaccard),
            "size",
            f"size of the original image ({unit})",
        ),
        _bins_chart(
            "IoU and colour contrast",
            quantile_bins(
                [facts[number].contrast or 0 for number in seen], jaccard[seen], _range(".0f")
            ),
            "contrast",
            "colour difference of lesion and skin",
            "CIE 1976 distance of the mean colours inside the annotated outline and in a ring "
            "around it, a quarter of the lesion's radius wide; about 2 is just visible.",
        ),
    ]


def _size_bins(sizes: Sequence[tuple[int, int]], jaccard: npt.NDArray[np.float64]) -> list[Bin]:
    kinds = sorted(set(sizes), key=lambda size: (size[0] * size[1], size))
    if len(kinds) <= MOST_BINS:
        return category_bins(sizes, jaccard, {(w, h): f"{w}x{h}" for w, h in kinds})
    megapixels = [width * height / 1e6 for width, height in sizes]
    return quantile_bins(megapixels, jaccard, _range(".2g"))


def _range(digits: str) -> Callable[[float, float], str]:
    def label(low: float, high: float) -> str:
        return "–".join(dict.fromkeys(f"{end:{digits}}" for end in (low, high)))

    return label


def _bins_chart(title: str, bins: Sequence[Bin], name: str, xlabel: str, note: str = "") -> Chart:
    return _chart(title, bins_figure(bins, xlabel), name, note, *_bin_table(bins, xlabel))


def _bin_table(bins: Sequence[Bin], what: str) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    rows = [
        (b.label, f"{len(b.values):,}", f"{b.mean:.3f}", f"{b.low:.3f} to {b.high:.3f}")
        for b in bins
    ]
    return (what, "images", "mean IoU", "95 % interval"), rows


def calibration_charts(
    confidence: npt.NDArray[np.float64], jaccard: npt.NDArray[np.float64], name: str
) -> list[Chart]:
    """Return how what the model says fits what it reached, and how well it finds failures.

    Args:
        confidence: what the model says of each image, shape (N,).
        jaccard: what it reached, shape (N,).
        name: of ``confidence``.
    """
    bins = quantile_bins(confidence, jaccard, _range(".3f"), CALIBRATION_BINS)
    detection = failure_detection(confidence, jaccard)
    charts = [
        _chart(
            f"Achieved Jaccard index and {name}",
            reliability_figure(bins, f"mean {name}"),
            "calibration",
            "Diamonds: about equally many images each; bars: 95 % intervals. Mean absolute "
            f"difference of an image: {detection['mean_absolute_error']:.3f}.",
            *_bin_table(bins, name),
        )
    ]
    if detection["auroc"] is None:
        return charts
    failed = jaccard < FAILURE_IOU
    found = np.cumsum(failed[np.argsort(confidence, kind="stable")]) / failed.sum()
    found = np.concatenate([np.zeros(1), found])
    share = np.arange(len(found)) / len(failed)
    charts.append(
        _chart(
            "Failures found by looking at the least sure images",
            review_figure(share, found),
            "review",
            f"AUROC {detection['auroc']:.3f}; the least sure tenth of the images holds "
            f"{detection['caught_at_10_percent']:.0%} of the {detection['failures']} below "
            f"{FAILURE_IOU:g}.",
            ("images sent", "failures found"),
            [
                (f"{part:.0%}", f"{found[round(part * len(failed))]:.1%}")
                for part in (0.05, 0.1, 0.2, 0.3, 0.5, 1)
            ],
        )
    )
    return charts


def _chart(
    title: str,
    figure: Figure,
    name: str,
    note: str,
    head: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
) -> Chart:
    return Chart(title, inline_svg(figure, name, title), note, head, rows)
