"""The page's charts, with the numbers below them: losses, distribution and calibration."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lesion_d2.evaluation.evaluation import Evaluation
from lesion_d2.evaluation.failure_detection import FAILURE_IOU, REVIEWED_SHARE, failure_detection
from lesion_d2.figures.boxplot import ORIGINAL_STATISTICS, boxplot_figure
from lesion_d2.figures.losses import losses_figure
from lesion_d2.figures.style import FIRST_COLOUR, QUIET_COLOUR, SECOND_COLOUR, new_chart
from lesion_d2.report.bins import Bin, quantile_bins
from lesion_d2.report.svg import inline_svg
from lesion_d2.results.run import read_metrics, read_schedule

CALIBRATION_BINS = 10
TENTHS = np.linspace(0, 1, 11)
FAILURE_LINE: dict[str, Any] = {
    "color": QUIET_COLOUR,
    "linestyle": ":",
    "label": f"{FAILURE_IOU:g}",
}


class Chart(NamedTuple):
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
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def make_chart(
    figure: Figure,
    name: str,
    note: str = "",
    head: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
) -> Chart:
    """Turn a figure into a :class:`Chart`; all lines of its title become text of the page.

    ``name`` is unique in the page, letters only.
    """
    title, *more = figure.get_suptitle().split("\n")
    figure.suptitle("")
    note = " ".join(part for part in ("; ".join(more) and f"{'; '.join(more)}.", note) if part)
    return Chart(title, inline_svg(figure, name, title), note, head, rows)


def bin_table(bins: Sequence[Bin], what: str) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return head and rows of a table of bins of ``what``."""
    rows = [
        (b.label, f"{len(b.values):,}", f"{b.mean:.3f}", f"{b.low:.3f} to {b.high:.3f}")
        for b in bins
    ]
    return (what, "images", "mean IoU", "95 % interval"), rows


def mean_points(ax: Axes, places: Sequence[float], bins: Sequence[Bin]) -> None:
    """Draw the mean of each bin and its interval."""
    means = np.array([b.mean for b in bins])
    errors = np.abs(np.array([(b.low, b.high) for b in bins]).T - means)
    ax.errorbar(places, means, errors, fmt="D", color=SECOND_COLOUR, capsize=4, markersize=5)


def in_range(digits: str) -> Callable[[float, float], str]:
    """Return a function from the ends of a bin to its label, such as 1.0–2.5."""
    return lambda low, high: "–".join(dict.fromkeys(f"{end:{digits}}" for end in (low, high)))


def losses_chart(run_dir: Path) -> Chart:
    """Return the losses by epoch of a run."""
    name = run_dir.resolve().name
    return make_chart(losses_figure(read_metrics(run_dir), read_schedule(run_dir), name), "losses")


def distribution_charts(evaluation: Evaluation) -> list[Chart]:
    """Return the box plot, the histogram and the cumulative curve of the IoU."""
    jaccard, max_iou = evaluation.table["jaccard"], evaluation.table["max_iou"]
    return [
        _boxplot(evaluation, max_iou),
        _histogram(jaccard),
        _cumulative({"Jaccard of the submitted mask": jaccard, "max IoU": max_iou}),
    ]


def _boxplot(evaluation: Evaluation, max_iou: npt.NDArray[np.float64]) -> Chart:
    ours = boxplot_stats(max_iou)[0]
    names = {
        **{"mean": "mean", "med": "median", "q1": "lower quartile", "q3": "upper quartile"},
        **{"whislo": "lower whisker", "whishi": "upper whisker"},
    }
    return make_chart(
        boxplot_figure(max_iou, evaluation.summary),
        "boxplot",
        "Box: quartiles; line: median; diamond: mean; whiskers: last image within 1.5 times the "
        "box.",
        ("", "this evaluation", "original experiment"),
        [
            (name, f"{ours[key]:.3f}", f"{ORIGINAL_STATISTICS[key]:.3f}")
            for key, name in names.items()
        ],
    )


def _histogram(jaccard: npt.NDArray[np.float64]) -> Chart:
    figure, ax = new_chart(
        "Histogram of the Jaccard index",
        xlabel="Jaccard index of the submitted mask",
        ylabel="images",
        xlim=(0, 1),
        xticks=TENTHS,
    )
    counts, edges, _ = ax.hist(
        jaccard,
        np.linspace(0, 1, 21).tolist(),
        color=FIRST_COLOUR,
        edgecolor="white",
        linewidth=0.5,
    )
    ax.axvline(FAILURE_IOU, **FAILURE_LINE)
    below = int((jaccard < FAILURE_IOU).sum())
    return make_chart(
        figure,
        "histogram",
        f"{below:,} of {len(jaccard):,} images are below {FAILURE_IOU:g} (dotted line).",
        ("from", "to", "images"),
        [
            (f"{start:.2f}", f"{end:.2f}", f"{count:,.0f}")
            for start, end, count in zip(edges, edges[1:], counts, strict=False)
        ],
    )


def _cumulative(scores: dict[str, npt.NDArray[np.float64]]) -> Chart:
    figure, ax = new_chart(
        "Cumulative share of the images",
        xlabel="IoU",
        ylabel="share of images at or below",
        xlim=(0, 1),
        xticks=TENTHS,
    )
    styles = ((FIRST_COLOUR, "-"), (SECOND_COLOUR, "--"))
    for (label, values), (colour, line) in zip(scores.items(), styles, strict=True):
        ax.ecdf(values, color=colour, linestyle=line, label=label)
    ax.axvline(FAILURE_IOU, **FAILURE_LINE)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", frameon=False)
    return make_chart(
        figure,
        "cumulative",
        "The lower a curve, the better.",
        ("at or below", *scores),
        [
            (f"{level:.1f}", *(f"{np.mean(values <= level):.1%}" for values in scores.values()))
            for level in TENTHS[1:]
        ],
    )


def calibration_charts(
    confidence: npt.NDArray[np.float64], jaccard: npt.NDArray[np.float64], name: str
) -> list[Chart]:
    """Return how what the model says fits what it reached, and how well it finds failures.

    Args:
        confidence: what the model says of each image, shape (N,).
        jaccard: what it reached, shape (N,).
        name: of ``confidence``.
    """
    detection = failure_detection(confidence, jaccard)
    charts = [_reliability(confidence, jaccard, name, detection["mean_absolute_error"])]
    if detection["auroc"] is not None:
        note = (
            f"AUROC {detection['auroc']:.3f}; the least sure tenth of the images holds "
            f"{detection['caught_at_10_percent']:.0%} of the {detection['failures']} below "
            f"{FAILURE_IOU:g}."
        )
        failed = (jaccard < FAILURE_IOU)[np.argsort(confidence, kind="stable")]
        charts.append(_review(failed, note))
    return charts


def _reliability(
    confidence: npt.NDArray[np.float64],
    jaccard: npt.NDArray[np.float64],
    name: str,
    error: float | None,
) -> Chart:
    bins = quantile_bins(confidence, jaccard, in_range(".3f"), CALIBRATION_BINS)
    start = np.floor(10 * max(0, min(min(b.low, b.place) for b in bins) - 0.02)) / 10
    figure, ax = new_chart(
        f"Achieved Jaccard index and {name}",
        xlabel=f"mean {name}",
        ylabel="mean Jaccard index",
        xlim=(start, 1.01),
        ylim=(start, 1.01),
    )
    mean_points(ax, [b.place for b in bins], bins)
    ax.plot([start, 1], [start, 1], "--", color=QUIET_COLOUR, label="equal")
    ax.legend(loc="upper left", frameon=False)
    return make_chart(
        figure,
        "calibration",
        "Diamonds: about equally many images each; bars: 95 % intervals. Mean absolute "
        f"difference of an image: {error:.3f}.",
        *bin_table(bins, name),
    )


def _review(failed: npt.NDArray[np.bool_], note: str) -> Chart:
    """Chart the failures found; ``failed`` has the least sure image first."""
    found = np.concatenate([np.zeros(1), np.cumsum(failed) / failed.sum()])
    figure, ax = new_chart(
        "Failures found by looking at the least sure images",
        xlabel="images sent to a human, the least sure first",
        ylabel=f"images below {FAILURE_IOU:g} among them",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    ax.plot(np.arange(len(found)) / len(failed), found, color=FIRST_COLOUR, label="by this order")
    ax.plot([0, 1], [0, 1], "--", color=QUIET_COLOUR, label="at random")
    ax.axvline(REVIEWED_SHARE, color=QUIET_COLOUR, linestyle=":")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower right", frameon=False)
    rows = [
        (f"{part:.0%}", f"{found[round(part * len(failed))]:.1%}")
        for part in (0.05, 0.1, 0.2, 0.3, 0.5, 1)
    ]
    return make_chart(figure, "review", note, ("images sent", "failures found"), rows)
