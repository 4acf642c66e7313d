"""The page's charts, with the numbers below them: losses, distribution and calibration."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lesion_d2.evaluation.failure_detection import FAILURE_IOU, REVIEWED_SHARE, failure_detection
from lesion_d2.evaluation.scores import Evaluation
from lesion_d2.figures.boxplot import ORIGINAL_STATISTICS, boxplot_figure
from lesion_d2.figures.losses import losses_figure
from lesion_d2.figures.style import FIRST_COLOUR, QUIET_COLOUR, SECOND_COLOUR, new_chart
from lesion_d2.report.bins import bin_table, mean_points, quantile_bins
from lesion_d2.results.run import read_metrics, read_schedule

CALIBRATION_BINS = 10
FAILURE_LINE: dict[str, Any] = {"color": QUIET_COLOUR, "linestyle": ":"}
# Colours of the figures -> what the page's style sheet says, light or dark.
_PAGE_COLOURS = {
    "#000000": "currentColor",
    "#ffffff": "var(--surface)",
    FIRST_COLOUR.lower(): "var(--first)",
    SECOND_COLOUR.lower(): "var(--second)",
    QUIET_COLOUR.lower(): "var(--quiet)",
}


class Chart(NamedTuple):
    """A chart, what a reader has to know, and the table below it: names of columns, and cells."""

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


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return a figure as an ``<svg>`` element that has no width of its own, its text as outlines.

    ``name`` is unique in the page, letters only; ``description`` is for those who cannot see it.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    svg = stream.getvalue()
    root = re.search(r'<svg [^>]*viewBox="([\d. ]+)"[^>]*>', svg)
    assert root
    body = svg[root.end() :]
    # Ids are unique in a file, not in a page of several.
    body = re.sub(r' id="', f' id="{name}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = body.replace('xlink:href="data:', 'href="data:').replace("url(#", f"url(#{name}-")
    for colour, variable in _PAGE_COLOURS.items():
        body = re.sub(colour, variable, body, flags=re.IGNORECASE)
    label = escape(description)
    start = f'<svg class="chart" viewBox="{root[1]}" role="img" aria-label="{label}">'
    return Markup(start + re.sub(r"\s*\n\s*", "\n", body))


def losses_chart(run_dir: Path) -> Chart:
    """Return the losses by epoch of a run."""
    name = run_dir.resolve().name
    return make_chart(losses_figure(read_metrics(run_dir), read_schedule(run_dir), name), "losses")


def distribution_charts(evaluation: Evaluation) -> list[Chart]:
    """Return the box plot of the max IoU, and the histogram of the Jaccard index."""
    return [_boxplot(evaluation), _histogram(evaluation.table["jaccard"])]


def _boxplot(evaluation: Evaluation) -> Chart:
    max_iou = evaluation.table["max_iou"]
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
        xticks=np.linspace(0, 1, 11),
    )
    twentieths = np.linspace(0, 1, 21).tolist()
    counts, edges, _ = ax.hist(jaccard, twentieths, color=FIRST_COLOUR, edgecolor="white")
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


def calibration_charts(
    confidence: npt.NDArray[np.float64], jaccard: npt.NDArray[np.float64], name: str
) -> list[Chart]:
    """Return how what the model says fits what it reached, and how well it finds failures.

    Both arrays have the shape (N,); ``name`` is that of ``confidence``.
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
    bins = quantile_bins(confidence, jaccard, ".3f", CALIBRATION_BINS)
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
