"""A comparison of evaluations as text, CSV, JSON and figures."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tabulate import tabulate

from lesion_d2.evaluation.comparison import (
    FAILED,
    MISSED,
    SHARES,
    Change,
    Comparison,
    Row,
    changed_most,
    compare,
    compare_rows,
    settings_of,
    show,
)
from lesion_d2.evaluation.statistics import FAILURE_IOU, paired_interval
from lesion_d2.figures.comparison import changed_images_figure, changes_figure
from lesion_d2.figures.style import save_figure
from lesion_d2.files import atomic_write
from lesion_d2.results.evaluation import read_evaluations

WORDS = {
    "max_iou": "max IoU",
    "top1_iou": "IoU of the top instance",
    MISSED: "images missed",
    FAILED: f"jaccard below {FAILURE_IOU}",
}


@dataclass(frozen=True)
class Report:
    """What is printed and written of a comparison.

    Attributes:
        comparison: at least two evaluations.
        metric: what the images that changed are chosen by.
        rows: every metric of every run.
        changes: the images that changed most.
    """

    comparison: Comparison
    metric: str
    rows: list[Row]
    changes: list[Change]

    def row(self, run: int, metric: str) -> Row:
        """Return the row of one run and metric."""
        return next(row for row in self.rows if (row.run, row.metric) == (run, metric))


def compare_folders(folders: Sequence[Path], force: bool = False) -> Comparison:
    """Read evaluations and compare them.

    Args:
        folders: two or more, of evaluations or of runs with one evaluation each; the first is the
            baseline.
        force: see :func:`lesion_d2.evaluation.comparison.compare`.

    Raises:
        LesionError: a folder cannot be read, or the evaluations are not comparable.
    """
    return compare(read_evaluations(folders), force)


def make_report(comparison: Comparison, metric: str, count: int) -> Report:
    """Compute the figures of a comparison.

    Args:
        comparison: at least two evaluations.
        metric: one of :data:`lesion_d2.evaluation.official.SCORES`.
        count: how many gains and how many losses to list.

    Raises:
        LesionError: not every evaluation has the metric.
    """
    changes = changed_most(comparison, metric, count)
    return Report(comparison, metric, compare_rows(comparison), changes)


def describe(report: Report) -> str:
    """Return tables and sentences."""
    evaluations = report.comparison.evaluations
    folders = [f"{run}: {evaluation.folder}" for run, evaluation in enumerate(evaluations, 1)]
    parts = ["\n".join([*folders, _conditions(report.comparison)]), _means(report)]
    for run in range(2, len(evaluations) + 1):
        parts.append(_differences(report, run))
        for kind, name in (("gain", "largest gains"), ("loss", "largest losses")):
            chosen = [item for item in report.changes if (item.run, item.change) == (run, kind)]
            title = f"{name} of {run} over 1 by {_words(report.metric)}"
            parts.append(f"{title}:\n{_changes(run, chosen)}" if chosen else f"{title}: none")
    return "\n\n".join(parts)


def write_report(report: Report, output: Path, dataset_dir: Path | None = None) -> list[Path]:
    """Write tables and figures into ``output`` and return their paths.

    Args:
        report: what to write.
        output: folder, created when missing.
        dataset_dir: the converted data set; with it the images that changed are drawn.

    Raises:
        LesionError: an image or a submitted mask is missing or does not fit.
    """
    paths = [
        _write_csv(output / "compare.csv", Row, report.rows),
        _write_csv(output / "changed.csv", Change, report.changes),
        output / "compare.json",
    ]
    with atomic_write(paths[-1]) as stream:
        json.dump(_as_json(report), stream, indent=1)
        stream.write("\n")
    for run in range(2, len(report.comparison.evaluations) + 1):
        paths += _draw(report, run, output, dataset_dir)
    return paths


def _draw(report: Report, run: int, output: Path, dataset_dir: Path | None) -> list[Path]:
    comparison, metric = report.comparison, _words(report.metric)
    pair = (comparison.evaluations[0], comparison.evaluations[run - 1])
    names = (f"1: {pair[0].folder}", f"{run}: {pair[1].folder}")
    note = " (not comparable, and forced)" if comparison.problems else ""

    baseline, values = (comparison.scores[index][report.metric] for index in (0, run - 1))
    title = f"{metric} of {len(values):,} images{note}"
    interval = paired_interval(values, baseline)
    figure = changes_figure(baseline, values, names, metric, interval, title)
    paths = [save_figure(figure, output / f"changes_{run}.png")]
    changes = [
        (item.image_id, item.baseline, item.value) for item in report.changes if item.run == run
    ]
    if dataset_dir and changes:
        title = f"{pair[0].summary['dataset']}: images whose {metric} changed most{note}"
        figure = changed_images_figure(changes, pair, dataset_dir, names, title)
        paths.append(save_figure(figure, output / f"changed_images_{run}.png"))
    return paths


def _conditions(comparison: Comparison) -> str:
    count = len(comparison.image_ids)
    if comparison.problems:
        return (
            f"Not comparable, and forced: {'; '.join(comparison.problems)}. All figures are of the "
            f"{count:,} images that are in all runs, by the metrics that all runs have."
        )
    summary = comparison.evaluations[0].summary
    size = "originals" if summary["resolution"] == "original" else "data set's images"
    return (
        f"{count:,} images, the same in all runs, at the size of the {size}; max IoU over "
        f"instances of score {summary['score_threshold']} and above"
    )


def _means(report: Report) -> str:
    """Return the table of settings that differ and of every metric, a column a run."""
    settings = [settings_of(evaluation) for evaluation in report.comparison.evaluations]
    lines = []
    for key in dict.fromkeys(key for item in settings for key in item):
        values = [show(item.get(key)) for item in settings]
        if len(set(values)) > 1:
            lines.append([key, *values])
    runs = range(1, len(settings) + 1)
    lines += [
        [_words(metric), *(_mean(report.row(run, metric)) for run in runs)]
        for metric in report.comparison.scores[0]
    ]
    return _table(lines, ["mean (95 % interval)", "1, the baseline", *map(str, runs[1:])])


def _mean(row: Row) -> str:
    text = f"{row.mean:.4f} ({row.low:.4f} to {row.high:.4f})"
    if row.metric in SHARES:
        return f"{round(row.mean * row.images):,}, or {text}"
    return text


def _differences(report: Report, run: int) -> str:
    lines = [
        [
            _words(row.metric),
            f"{row.difference:+.4f}",
            f"{row.difference_low:+.4f} to {row.difference_high:+.4f}",
            *(f"{count:,}" for count in (row.better, row.worse, row.equal)),
        ]
        for row in report.rows
        if row.run == run
    ]
    return _table(
        lines, [f"{run} minus 1", "difference", "95 % interval", "better", "worse", "equal"]
    )


def _changes(run: int, changes: Sequence[Change]) -> str:
    lines = [
        [
            str(change.image_id),
            change.isic_id,
            f"{change.baseline:.4f}",
            f"{change.value:.4f}",
            f"{change.difference:+.4f}",
        ]
        for change in changes
    ]
    return _table(lines, ["image id", "image", "1", str(run), "difference"])


def _as_json(report: Report) -> dict[str, Any]:
    comparison = report.comparison
    runs = [
        {
            "run": run,
            "folder": str(evaluation.folder),
            **{f"images_{name}": int(scores[name].sum()) for name in SHARES if name in scores},
            **settings_of(evaluation),
        }
        for run, (evaluation, scores) in enumerate(
            zip(comparison.evaluations, comparison.scores, strict=True), 1
        )
    ]
    return {
        "images": len(comparison.image_ids),
        "not_comparable": comparison.problems,
        "runs": runs,
        "rows": [asdict(row) for row in report.rows],
        "changed_by": report.metric,
        "changed": [asdict(change) for change in report.changes],
    }


def _write_csv(path: Path, kind: type[Row] | type[Change], rows: Sequence[Row | Change]) -> Path:
    with atomic_write(path) as stream:
        names = [field.name for field in fields(kind)]
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    return path


def _words(metric: str) -> str:
    """Return the name of a column for people."""
    return WORDS.get(metric, metric.replace("_", " "))


def _table(lines: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    align = ("left", *["right"] * (len(heads) - 1))
    return tabulate(lines, headers=heads, colalign=align, disable_numparse=True)
