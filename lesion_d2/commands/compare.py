"""Comparing evaluations: text, CSV, JSON and figures."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from lesion_d2.errors import LesionError
from lesion_d2.evaluation.comparison import (
    Comparison,
    changed_most,
    compare,
    compare_metrics,
    settings_of,
    show,
)
from lesion_d2.evaluation.metrics import COUNTS, METRICS
from lesion_d2.figures.comparison import changed_images_figure, changes_figure
from lesion_d2.figures.style import save_figure
from lesion_d2.files import atomic_write
from lesion_d2.results.evaluation import find_evaluation, read_evaluation

Rows = Sequence[dict[str, Any]]


def compare_runs(
    folders: Sequence[Path],
    metric: str,
    count: int,
    output: Path | None = None,
    dataset_dir: Path | None = None,
    force: bool = False,
) -> None:
    """Print a comparison, and write it to ``output`` if given.

    Args:
        folders: two or more, of evaluations or of runs with one evaluation each; the first is the
            baseline.
        metric: the images that changed are chosen by, one of
            :data:`lesion_d2.evaluation.metrics.METRICS`.
        count: how many gains and how many losses to list.
        output: folder, created when missing.
        dataset_dir: the converted data set; with it the images that changed are drawn.
        force: see :func:`lesion_d2.evaluation.comparison.compare`.

    Raises:
        LesionError: a file cannot be read, the evaluations are not comparable, or not all of them
            have the metric.
    """
    comparison = compare_folders(folders, force)
    rows, changes = compare_metrics(comparison), changed_most(comparison, metric, count)
    print(comparison_text(comparison, rows, metric, changes))
    if output:
        for path in write_comparison(comparison, rows, metric, changes, output, dataset_dir):
            print(path)


def compare_folders(folders: Sequence[Path], force: bool = False) -> Comparison:
    """Read evaluations and compare them; see :func:`compare_runs`."""
    paths = [find_evaluation(folder) for folder in folders]
    for index, path in enumerate(paths):
        if path.resolve() in [earlier.resolve() for earlier in paths[:index]]:
            raise LesionError(f"{path}: given twice; name another evaluation")
    columns = ("isic_id", "max_iou", "num_instances")
    return compare([read_evaluation(path, ("dataset",), columns) for path in paths], force)


def comparison_text(comparison: Comparison, rows: Rows, metric: str, changes: Rows) -> str:
    """Return tables and sentences.

    Args:
        comparison: at least two evaluations.
        rows: of :func:`~lesion_d2.evaluation.comparison.compare_metrics`.
        metric: what the images that changed are chosen by.
        changes: of :func:`~lesion_d2.evaluation.comparison.changed_most`.
    """
    folders = [f"{run}: {item.folder}" for run, item in enumerate(comparison.evaluations, 1)]
    form = METRICS[metric].mean_format
    parts = ["\n".join([*folders, _conditions(comparison)]), _means(comparison, rows)]
    for run in range(2, len(folders) + 1):
        parts.append(_differences(run, rows))
        for change, name in (("gain", "largest gains"), ("loss", "largest losses")):
            lines = [
                [
                    item["image_id"],
                    item["isic_id"],
                    *(f"{item[key]:{form}}" for key in ("baseline", "value")),
                    f"{item['difference']:+{form}}",
                ]
                for item in changes
                if (item["run"], item["change"]) == (run, change)
            ]
            title = f"{name} of {run} over 1 by {METRICS[metric].words}"
            table = _table(lines, ["image id", "image", "1", str(run), "difference"])
            parts.append(f"{title}:\n{table}" if lines else f"{title}: none")
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


def _means(comparison: Comparison, rows: Rows) -> str:
    """Return the table of settings that differ and of every metric, a column a run."""
    settings = [settings_of(evaluation) for evaluation in comparison.evaluations]
    lines = []
    for key in dict.fromkeys(key for item in settings for key in item):
        values = [show(item.get(key)) for item in settings]
        if len(set(values)) > 1:
            lines.append([key, *values])
    lines += [
        [_words(metric), *(_mean(row) for row in rows if row["metric"] == metric)]
        for metric in comparison.scores[0]
    ]
    others = map(str, range(2, len(settings) + 1))
    return _table(lines, ["mean (95 % interval)", "1, the baseline", *others])


def _mean(row: dict[str, Any]) -> str:
    form = _format(row["metric"])
    text = f"{row['mean']:{form}} ({row['low']:{form}} to {row['high']:{form}})"
    if row["metric"] in COUNTS:
        return f"{round(row['mean'] * row['images']):,}, or {text}"
    return text


def _differences(run: int, rows: Rows) -> str:
    lines = []
    for row in rows:
        if row["run"] == run:
            difference, low, high = (
                f"{row[key]:+{_format(row['metric'])}}"
                for key in ("difference", "difference_low", "difference_high")
            )
            counts = [f"{row[key]:,}" for key in ("better", "worse", "equal")]
            lines.append([_words(row["metric"]), difference, f"{low} to {high}", *counts])
    heads = [f"{run} minus 1", "difference", "95 % interval", "better", "worse", "equal"]
    return _table(lines, heads)


def _words(metric: str) -> str:
    return (COUNTS if metric in COUNTS else METRICS)[metric].words


def _format(metric: str) -> str:
    return ".4f" if metric in COUNTS else METRICS[metric].mean_format


def _table(lines: Sequence[Sequence[Any]], heads: Sequence[str]) -> str:
    align = ("left", *["right"] * (len(heads) - 1))
    return tabulate(lines, headers=heads, colalign=align if lines else None, disable_numparse=True)


def write_comparison(
    comparison: Comparison,
    rows: Rows,
    metric: str,
    changes: Rows,
    output: Path,
    dataset_dir: Path | None = None,
) -> list[Path]:
    """Write tables and figures into ``output`` and return their paths.

    Arguments are those of :func:`comparison_text` and :func:`compare_runs`.

    Raises:
        LesionError: an image or a submitted mask is missing or does not fit.
    """
    content = {
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
        "rows": rows,
        "changed_by": metric,
        "changed": changes,
    }
    paths = [output / "compare.csv", output / "changed.csv", output / "compare.json"]
    for path, lines in zip(paths, (rows, changes), strict=False):
        with atomic_write(path) as stream:
            writer = csv.DictWriter(stream, lines[0] if lines else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
    with atomic_write(paths[-1]) as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")
    for row in rows:
        if row["run"] > 1 and row["metric"] == metric:
            chosen = [item for item in changes if item["run"] == row["run"]]
            paths += _draw(comparison, row, chosen, output, dataset_dir)
    return paths


def _draw(
    comparison: Comparison,
    row: dict[str, Any],
    changes: Rows,
    output: Path,
    dataset_dir: Path | None,
) -> list[Path]:
    """Draw what changed in one run by one metric."""
    run, metric = row["run"], METRICS[row["metric"]]
    pair = (comparison.evaluations[0], comparison.evaluations[run - 1])
    names = (f"1: {pair[0].folder}", f"{run}: {pair[1].folder}")
    note = " (not comparable, and forced)" if comparison.problems else ""
    baseline, values = (comparison.scores[index][metric.name] for index in (0, run - 1))
    title = f"{metric.words} of {len(values):,} images{note}"
    interval = (row["difference_low"], row["difference_high"])
    figure = changes_figure(baseline, values, names, metric.words, interval, title)
    paths = [save_figure(figure, output / f"changes_{run}.png")]
    if dataset_dir and changes:
        title = f"{pair[0].summary['dataset']}: images whose {metric.words} changed most{note}"
        panels = [(item["image_id"], item["baseline"], item["value"]) for item in changes]
        figure = changed_images_figure(panels, pair, dataset_dir, names, title)
        paths.append(save_figure(figure, output / f"changed_images_{run}.png"))
    return paths
