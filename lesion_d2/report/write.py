"""From an evaluation folder to its report.html."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from lesion_d2.errors import LesionError
from lesion_d2.evaluation.failure_detection import FAILURE_IOU
from lesion_d2.evaluation.metrics import COUNTS, FAILED, METRICS
from lesion_d2.evaluation.scores import Evaluation
from lesion_d2.files import atomic_write
from lesion_d2.report.cards import SHEETS, Card, choose_sheets, make_cards
from lesion_d2.report.charts import calibration_charts, distribution_charts, losses_chart
from lesion_d2.report.factors import factor_charts
from lesion_d2.results.evaluation import REMEDY, REPORT, evaluated_lesions, read_evaluation
from lesion_d2.results.run import read_config

# Bytes of the whole page; kept free for all but pictures and table; kept free for a row of it.
PAGE_LIMIT = 15_000_000
FIXED_LIMIT = 1_500_000
ROW_LIMIT = 400

# Columns of the table of all images: what they are called, how their numbers are written.
COLUMNS = {name: (metric.words, metric.format) for name, metric in METRICS.items()} | {
    "score": ("Score", ".3f"),
    "num_instances": ("Instances", "d"),
    "estimated_iou": ("Estimate", ".3f"),
}
FACTS = ("Lesion", "Border", "Contrast", "Skin tone")
NUMBERS = (
    *(f"mean_{name}{end}" for name in METRICS for end in ("", "_low", "_high")),
    "num_images",
    *COUNTS,
    *("q1_max_iou", "median_max_iou", "q3_max_iou", "score_threshold"),
)
_WHAT_RAN = {
    "dataset": "Data set",
    "num_images": "Images",
    "resolution": "Scored at the size of",
    "input_fingerprint": "Fingerprint of the input",
    "split_fingerprint": "Fingerprint of the split",
    "weights": "Weights",
    "weights_sha256": "SHA-256 of the weights",
    "seed": "Seed",
    "min_size_test": "Shorter side in the network",
    "max_size_test": "Longer side in the network, at most",
    "precision": "Network computes in",
    "score_threshold": "Score threshold of max IoU",
    "views": "Views",
    "view_scales": "Scales of the views",
    "second_look": "Part seen again, in sizes of the lesion",
    "instance_choice": "Choice of the submitted mask",
    "postprocessing": "Post-processing",
    "instance_score_threshold": "Lowest score of an instance",
    "instance_nms_threshold": "IoU of boxes from which one instance replaces another",
    "instances_per_image": "Most instances of an image",
    "proposals_before_nms": "Most proposals before overlapping ones go",
    "proposals_after_nms": "Most proposals after that",
    "mask_threshold": "Threshold of mask pixels",
    "versions": "Versions",
}
_RESOLUTIONS = {"data set": "the data set's images", "original": "the originals"}


def write_report(
    eval_dir: Path, dataset_dir: Path, run_dir: Path | None = None, output: Path | None = None
) -> Path:
    """Write an evaluation's report, by default to ``eval_dir/report.html``, and return its path.

    Equal input gives an equal file. ``run_dir`` is the training run, for its config and losses;
    None leaves them out.

    Raises:
        LesionError: a file is missing, damaged or does not fit the others.
    """
    page = render_page(eval_dir, dataset_dir, run_dir)
    output = output or eval_dir / REPORT
    with atomic_write(output) as stream:
        stream.write(page)
    return output


def render_page(eval_dir: Path, dataset_dir: Path, run_dir: Path | None) -> str:
    """Return the page; see :func:`write_report`."""
    evaluation = read_evaluation(eval_dir, ("dataset", *NUMBERS), (*COLUMNS, "isic_id"))
    _check_numbers(evaluation)
    table, summary = evaluation.table, evaluation.summary
    lesions = evaluated_lesions(evaluation, dataset_dir)
    losses = losses_chart(run_dir) if run_dir else None
    config = read_config(run_dir) if run_dir else None
    rows = len(table["jaccard"])
    own = np.flatnonzero(np.isin(table["image_id"], list(lesions)))
    sheets = choose_sheets(evaluation, lesions)
    room = PAGE_LIMIT - FIXED_LIMIT - ROW_LIMIT * rows - len(config or "")
    cards = make_cards(evaluation, lesions, sheets, room)
    estimated = not np.isnan(table["estimated_iou"]).any()
    confidence, name = ("estimated_iou", "estimated IoU") if estimated else ("score", "score")
    columns = [name for name in COLUMNS if estimated or name != "estimated_iou"]

    # The first place a picture is shown in is the one that links lead to.
    places = {row: which for which, numbers in reversed(sheets.items()) for row in numbers}

    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),
        script=Markup((folder / "page.js").read_text(encoding="utf-8")),
        tiles=_tiles(summary),
        summary=summary,
        weights=summary.get("weights", "not recorded"),
        what_ran=_what_ran(summary),
        config=config,
        metrics=_metric_rows(summary),
        failure=FAILURE_IOU,
        losses=losses,
        distribution=distribution_charts(evaluation),
        # Flipped copies tell no more than their images.
        factors=factor_charts(table["jaccard"][own], [cards[row].facts for row in own]),
        estimated=estimated,
        calibration=calibration_charts(table[confidence][own], table["jaccard"][own], name),
        sheets=[(name, SHEETS[name], numbers) for name, numbers in sheets.items()],
        places=places,
        cards=cards,
        without=sum(card.picture is None for card in cards),
        others=[card for row, card in enumerate(cards) if card.picture and row not in places],
        heads=[*(COLUMNS[name][0] for name in columns), *FACTS],
        rows=[_cells(card, columns) for card in cards],
    )


def _tiles(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return value, label and small print of the figures at the top."""
    tiles = []
    for name in ("threshold_jaccard", "jaccard", "max_iou"):
        mean, low, high = (f"{summary[f'mean_{name}{end}']:.3f}" for end in ("", "_low", "_high"))
        tiles.append((mean, METRICS[name].words, f"{low} to {high}"))
    failures, images = int(summary[FAILED]), int(summary["num_images"])
    share = f"of {images:,} images ({failures / images:.1%})"
    return [*tiles, (f"{failures:,}", COUNTS[FAILED].words, share)]


def _cells(card: Card, columns: Sequence[str]) -> list[str]:
    """Return the text of an image's row after its name."""
    facts = card.facts
    return [
        *(f"{card.scores[name]:{COLUMNS[name][1]}}" for name in columns),
        f"{facts.area_share:.1%}",
        "yes" if facts.at_border else "no",
        "–" if facts.contrast is None else f"{facts.contrast:.1f}",
        "–" if facts.skin_tone is None else f"{facts.skin_tone:.0f}",
    ]


def _check_numbers(evaluation: Evaluation) -> None:
    """Raise a LesionError unless ``metrics.json`` holds a finite number at each of NUMBERS."""
    for key in NUMBERS:
        value: Any = evaluation.summary.get(key)
        if type(value) not in (int, float) or not math.isfinite(value):
            path = evaluation.folder / "metrics.json"
            raise LesionError(f"{path}: no number at {key} ({value!r}); {REMEDY}")


def _metric_rows(summary: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return name, explanation, mean and interval of each score."""
    rows = []
    for name, metric in METRICS.items():
        mean, low, high = (
            f"{summary[f'mean_{name}{end}']:{metric.mean_format}}" for end in ("", "_low", "_high")
        )
        rows.append((metric.words, metric.note, mean, f"{low}–{high}"))
    return rows


def _what_ran(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return labels and values of what was evaluated and how."""
    values = {key: _words(summary.get(key)) for key in _WHAT_RAN}
    values["resolution"] = _RESOLUTIONS.get(values["resolution"], values["resolution"])
    return [(label, values[key]) for key, label in _WHAT_RAN.items()]


def _words(value: Any) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
