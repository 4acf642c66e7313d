"""What the audit found, as CSV, as JSON and in words."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from lesion_d2.files import atomic_write
from lesion_d2.leaks.scores import MEASURES, training_split
from lesion_d2.leaks.search import KINDS, Place, PlacedImage, Twins

FORMAT = 1
COLUMNS = (
    *("kind", "first_dataset", "first_split", "first_id"),
    *("second_dataset", "second_split", "second_id", "hash_distance", "score"),
)


def leaks_of(twins: Iterable[Twins]) -> list[Twins]:
    """Return the pairs whose images are in two splits or in two data sets."""
    return [pair for pair in twins if pair.first.place != pair.second.place]


def with_twin(twins: Iterable[Twins], place: Place, training: Place) -> set[int]:
    """Return the ids of the images of ``place`` that have a twin in the training split."""
    return {
        own.image.image_id
        for pair in twins
        for own, other in ((pair.first, pair.second), (pair.second, pair.first))
        if (own.place, other.place) == (place, training)
    }


def summarise(images: Sequence[PlacedImage], twins: Sequence[Twins]) -> dict[str, Any]:
    """Count the images, the pairs by kind, and the images with a twin in training.

    Args:
        images: of all splits; the first one's data set is that of the training.
        twins: all pairs among them.

    Returns:
        the content of ``audit.json``, but for the scores.
    """
    sizes = Counter(placed.place for placed in images)
    kinds = Counter((pair.places, pair.kind) for pair in twins)
    training = training_split(images)
    affected = {place: with_twin(twins, place, training) for place in sizes if place != training}
    return {
        "format": FORMAT,
        "images": {str(place): size for place, size in sizes.items()},
        "leaks": [
            {
                "first": str(first),
                "second": str(second),
                **{kind: kinds[(first, second), kind] for kind in KINDS},
            }
            for first, second in combinations(sizes, 2)
        ],
        "inside_one_split": {
            kind: sum(kinds[(place, place), kind] for place in sizes) for kind in KINDS
        },
        "training": str(training),
        "with_twin_in_training": {
            str(place): {
                "images": sizes[place],
                "with_twin": len(ids),
                "share": len(ids) / sizes[place],
            }
            for place, ids in affected.items()
        },
    }


def describe(summary: dict[str, Any]) -> str:
    """Return the content of ``audit.json`` as a table and sentences."""
    rows = [(f"{row['first']} - {row['second']}", row) for row in summary["leaks"]]
    rows.append(("inside one split (no leak)", summary["inside_one_split"]))
    width = max(len(label) for label, _ in rows)
    heads = [kind.replace("_", " ") for kind in KINDS]
    lines = [" " * width + "".join(f"  {head}" for head in heads)]
    for label, row in rows:
        cells = (f"  {row[kind]:>{len(head)},}" for kind, head in zip(KINDS, heads, strict=True))
        lines.append(f"{label:{width}}" + "".join(cells))
    lines += [
        f"{place}: {row['with_twin']:,} of {row['images']:,} images ({row['share']:.1%}) have a "
        f"twin in {summary['training']}"
        for place, row in summary["with_twin_in_training"].items()
    ]
    return "\n".join(lines + _describe_scores(summary.get("scores")))


def write_leaks(path: Path, leaks: Iterable[Twins]) -> None:
    """Write the pairs as CSV with a header line."""
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for pair in leaks:
            sides = ((*side.place, side.image.isic_id) for side in (pair.first, pair.second))
            cells = [cell for side in sides for cell in side]
            writer.writerow([pair.kind, *cells, pair.hash_distance, pair.score])


def _describe_scores(scores: dict[str, Any] | None) -> list[str]:
    if scores is None:
        return []
    lines = []
    for measure in (name for name in MEASURES if name in scores):
        line = (
            f"{scores['dataset']}, mean {measure} of {scores['with_twin']:,} images with a twin "
            f"and {scores['without_twin']:,} without: "
        )
        if row := scores[measure]:
            line += (
                f"{row['mean_with_twin']:.4f} and {row['mean_without_twin']:.4f}, difference "
                f"{row['difference']:+.4f} (95 % interval {row['difference_low']:+.4f} to "
                f"{row['difference_high']:+.4f})"
            )
        else:
            line += "too few to compare"
        lines.append(line)
    if any(map(scores.get, MEASURES)):
        lines.append("such images differ in more than the twin: see docs/notes/leaks.md")
    return lines
