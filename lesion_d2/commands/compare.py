"""Comparing evaluations: text, CSV, JSON and figures."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from lesion_d2.errors import LesionError
from lesion_d2.evaluation.comparison import (
    CHANGE_FIELDS,
    ROW_FIELDS,
    Comparison,
    Row,
    compare,
    settings_of,
    show,
)
from lesion_d2.evaluation.metrics import COUNTS, MEASURES, METRICS, Metric
from lesion_d2.evaluation.statistics import paired_interval
from lesion_d2.figures.comparison import changed_images_figure, changes_figure
from lesion_d2.figures.style import save_figure
from lesion_d2.files import atomic_write, write_json
from lesion_d2.results.evaluation import find_evaluation, read_evaluation


def compare_runs(
    folders: Sequence[Path],
    metric: str = "jaccard",
    count: int = 10,
    output: Path | None = None,
    dataset_dir: Path | None = None,
    force: bool = False,
) -> Comparison:
    """Print a comparison, and write it to ``output`` if given.

    Args:
        folders: two or more, of evaluations or of runs with one evaluation each; the first is the
            baseline.
        metric: what the images that changed are chosen by, one of
            :data:`lesion_d2.evaluation.metrics.METRICS`.
        count: how many gains and how many losses to list.
        output: folder, created when missing.
        dataset_dir: the converted data set; with it the images that changed are drawn.
        force: see :func:`lesion_d2.evaluation.comparison.compare`.

    Raises:
        LesionError: a file cannot be read, the evaluations are not comparable, or not all of them
            have the metric.
    """
    paths = [find_evaluation(folder) for folder in folders]
    for index, path in enumerate(paths):
        if path.resolve() in [earlier.resolve() for earlier in paths[:index]]:
            raise LesionError(f"{path}: given twice; name another evaluation")
    columns = ("isic_id", "max_iou", "num_instances")
    evaluations = [read_evaluation(path, ("dataset",), columns) for path in paths]
    comparison = compare(evaluations, metric, count, force)
    print(_text(comparison, METRICS[metric]))
    if output:
        written = _write(comparison, metric, output)
        for run in range(2, len(paths) + 1):
            written += _draw(comparison, run, METRICS[metric], output, dataset_dir)
        print(*written, sep="\n")
    return comparison


def _text(comparison: Comparison, metric: Metric) -> str:
    """Return tables and sentences."""
    folders = [f"{run}: {item.folder}" for run, item in enumerate(comparison.evaluations, 1)]
    parts = ["\n".join([*folders, _conditions(comparison)]), _means(comparison)]
    for run in range(2, len(folders) + 1):
        parts.append(_differences(run, comparison.rows))
        lines = [
            [
                *(item[key] for key in ("change", "image_id", "isic_id")),
                *(f"{item[key]:{metric.mean_format}}" for key in ("baseline", "value")),
                f"{item['difference']:+{metric.mean_format}}",
            ]
            for item in comparison.changes
            if item["run"] == run
        ]
        heads = [metric.words, "image id", "image", "1", str(run), "difference"]
        parts.append(_table(lines, heads) if lines else f"no image's {metric.words} changed")
    return "\n\n".join(parts)


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


def _means(comparison: Comparison) -> str:
    """Return the table of settings that differ and of every metric, a column a run."""
    settings = [settings_of(evaluation) for evaluation in comparison.evaluations]
    lines = []
    for key in dict.fromkeys(key for item in settings for key in item):
        values = [show(item.get(key)) for item in settings]
        if len(set(values)) > 1:
            lines.append([key, *values])
    lines += [
        [
            MEASURES[metric].words,
            *(_mean(row) for row in comparison.rows if row["metric"] == metric),
        ]
        for metric in comparison.scores[0]
    ]
    others = map(str, range(2, len(settings) + 1))
    return _table(lines, ["mean (95 % interval)", "1, the baseline", *others])


def _mean(row: Row) -> str:
    form = MEASURES[row["metric"]].mean_format
    text = f"{row['mean']:{form}} ({row['low']:{form}} to {row['high']:{form}})"
    if row["metric"] in COUNTS:
        return f"{round(row['mean'] * row['images']):,}, or {text}"
    return text


def _differences(run: int, rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row["run"] == run:
            difference, low, high = (
                f"{row[key]:+{MEASURES[row['metric']].mean_format}}"
                for key in ("difference", "difference_low", "difference_high")
            )
            counts = [f"{row[key]:,}" for key in ("better", "worse", "equal")]
            lines.append([MEASURES[row["metric"]].words, difference, f"{low} to {high}", *counts])
    heads = [f"{run} minus 1", "difference", "95 % interval", "better", "worse", "equal"]
    return _table(lines, heads)


def _table(lines: Sequence[Sequence[Any]], heads: Sequence[str]) -> str:
    align = ("left", *["right"] * (len(heads) - 1))
    return tabulate(lines, headers=heads, colalign=align, disable_numparse=True)


def _write(comparison: Comparison, metric: str, output: Path) -> list[Path]:
    """Write the tables."""
    content: dict[str, Any] = {
        "images": len(comparison.image_ids),
        "not_comparable": comparison.problems,
        "runs": [
            {
                "run": run,
                "folder": str(evaluation.folder),
                **{f"images_{name}": int(scores[name].sum()) for name in COUNTS if name in scores},
                **settings_of(evaluation),
            }
            for run, (evaluation, scores) in enumerate(
                zip(comparison.evaluations, comparison.scores, strict=True), 1
            )
        ],
        "rows": comparison.rows,
        "changed_by": metric,
        "changed": comparison.changes,
    }
    tables = {
        "compare.csv": (ROW_FIELDS, comparison.rows),
        "changed.csv": (CHANGE_FIELDS, comparison.changes),
    }
    for name, (fields, lines) in tables.items():
        with atomic_write(output / name) as stream:
            writer = csv.DictWriter(stream, fields, lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
    write_json(output / "compare.json", content)
    return [output / name for name in (*tables, "compare.json")]


def _draw(
    comparison: Comparison, run: int, metric: Metric, output: Path, dataset_dir: Path | None
) -> list[Path]:
    """Draw what changed in one run by one metric."""
    pair = (comparison.evaluations[0], comparison.evaluations[run - 1])
    names = (f"1: {pair[0].folder}", f"{run}: {pair[1].folder}")
    note = " (not comparable, and forced)" if comparison.problems else ""
    baseline, values = (comparison.scores[index][metric.name] for index in (0, run - 1))
    interval = paired_interval(values, baseline, comparison.image_ids)
    title = f"{metric.words} of {len(values):,} images{note}"
    figure = changes_figure(baseline, values, names, metric.words, interval, title)
    paths = [save_figure(figure, output / f"changes_{run}.png")]
    panels = [
        (item["image_id"], item["baseline"], item["value"])
        for item in comparison.changes
        if item["run"] == run
    ]
    if dataset_dir and panels:
        title = f"{pair[0].summary['dataset']}: images whose {metric.words} changed most{note}"
        figure = changed_images_figure(panels, pair, dataset_dir, names, title)
        paths.append(save_figure(figure, output / f"changed_images_{run}.png"))
    return paths
