"""Comparing evaluations: text, CSV, JSON and figures."""

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
from lesion_d2.files import write_csv, write_json
from lesion_d2.results.evaluation import find_evaluation, read_evaluation


def compare_runs(
    folders: Sequence[Path],
    metric: str = "jaccard",
    count: int = 10,
    output: Path | None = None,
    dataset_dir: Path | None = None,
    force: bool = False,
) -> Comparison:
    """Print a comparison, and write it to the folder ``output`` if given.

    The folders are of evaluations or of runs with one evaluation each. With the converted data set
    the images that changed are drawn, too. All else, and what is raised, is as in
    :func:`lesion_d2.evaluation.comparison.compare`.
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
        lines = []
        for item in comparison.changes:
            if item["run"] == run:
                names = [item[key] for key in ("change", "image_id", "isic_id")]
                scores = [f"{item[key]:{metric.mean_format}}" for key in ("baseline", "value")]
                lines.append([*names, *scores, f"{item['difference']:+{metric.mean_format}}"])
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
    for metric in comparison.scores[0]:
        means = [_mean(row) for row in comparison.rows if row["metric"] == metric]
        lines.append([MEASURES[metric].words, *means])
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
    runs: list[dict[str, Any]] = []
    for evaluation, scores in zip(comparison.evaluations, comparison.scores, strict=True):
        head = {"run": len(runs) + 1, "folder": str(evaluation.folder)}
        counts = {f"images_{name}": int(scores[name].sum()) for name in COUNTS if name in scores}
        runs.append({**head, **counts, **settings_of(evaluation)})
    content = {
        "images": len(comparison.image_ids),
        "not_comparable": comparison.problems,
        "runs": runs,
        "rows": comparison.rows,
        "changed_by": metric,
        "changed": comparison.changes,
    }
    paths = [output / name for name in ("compare.csv", "changed.csv", "compare.json")]
    write_csv(paths[0], ROW_FIELDS, comparison.rows)
    write_csv(paths[1], CHANGE_FIELDS, comparison.changes)
    write_json(paths[2], content)
    return paths


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
    keys = ("image_id", "baseline", "value")
    panels = [tuple(item[key] for key in keys) for item in comparison.changes if item["run"] == run]
    if dataset_dir and panels:
        title = f"{pair[0].summary['dataset']}: images whose {metric.words} changed most{note}"
        figure = changed_images_figure(panels, pair, dataset_dir, names, title)
        paths.append(save_figure(figure, output / f"changed_images_{run}.png"))
    return paths
