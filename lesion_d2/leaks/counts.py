"""What the leak search found, counted and in words."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from tabulate import tabulate

from lesion_d2.leaks.search import KINDS, Place, PlacedImage, Twins


def count_leaks(images: Sequence[PlacedImage], twins: Sequence[Twins]) -> dict[str, Any]:
    """Count the images, the pairs by kind, and the images with a twin in training.

    Args:
        images: of all splits; the first one's data set is that of the training.
        twins: all pairs among them.

    Returns:
        the content of ``leaks.json``.
    """
    sizes = Counter(placed.place for placed in images)
    kinds = Counter((pair.first.place, pair.second.place, pair.kind) for pair in twins)
    training = Place(images[0].place.dataset, "train")
    affected: dict[Place, set[int]] = {place: set() for place in sizes if place != training}
    for pair in twins:
        for own, other in ((pair.first, pair.second), (pair.second, pair.first)):
            if other.place == training and own.place != training:
                affected[own.place].add(own.image.image_id)
    return {
        "format": 1,
        "images": {str(place): size for place, size in sizes.items()},
        "leaks": [
            {"first": str(first), "second": str(second)}
            | {kind: kinds[first, second, kind] for kind in KINDS}
            for first, second in combinations(sizes, 2)
        ],
        "inside_one_split": {
            kind: sum(kinds[place, place, kind] for place in sizes) for kind in KINDS
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


def leaks_in_words(summary: dict[str, Any]) -> str:
    """Return the content of ``leaks.json`` as a table and sentences."""
    rows = [(f"{row['first']} - {row['second']}", row) for row in summary["leaks"]]
    rows.append(("inside one split (no leak)", summary["inside_one_split"]))
    cells = [[label, *(f"{row[kind]:,}" for kind in KINDS)] for label, row in rows]
    heads = ["", *(kind.replace("_", " ") for kind in KINDS)]
    align = ("left", *["right"] * len(KINDS))
    lines = [tabulate(cells, heads, "plain", colalign=align, disable_numparse=True)]
    lines += [
        f"{place}: {row['with_twin']:,} of {row['images']:,} images ({row['share']:.1%}) have a "
        f"twin in {summary['training']}"
        for place, row in summary["with_twin_in_training"].items()
    ]
    return "\n".join(lines)
