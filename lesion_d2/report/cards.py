"""The images of an evaluation as the page shows them: rows, pictures, contact sheets."""

from typing import Any, NamedTuple

import numpy as np

from lesion_d2.data.converted import FLIP_ID_STEP, LesionImage
from lesion_d2.evaluation.evaluation import Evaluation
from lesion_d2.figures.predictions import choose
from lesion_d2.parallel import progress_bar
from lesion_d2.report.facts import Facts, look_at
from lesion_d2.report.pictures import Picture, make_picture
from lesion_d2.results.submission import read_submitted

SHEETS = {"worst": "worst", "median": "nearest to the median", "best": "best"}
SHEET_IMAGES = 20
# A picture of fewer bytes is not worth looking at.
LEAST_PICTURE = 5_000


class Card(NamedTuple):
    """An evaluated image.

    Attributes:
        scores: its row of ``per_image.csv``.
        facts: of the ground truth.
        picture: None where there is no room for it, or the image is a flipped copy.
    """

    scores: dict[str, Any]
    facts: Facts
    picture: Picture | None


def choose_sheets(evaluation: Evaluation, lesions: dict[int, LesionImage]) -> dict[str, list[int]]:
    """Return the rows of each contact sheet, flipped copies left out.

    Args:
        evaluation: with the column ``jaccard``.
        lesions: of the data set, by id.
    """
    own = [row for row, key in enumerate(evaluation.table["image_id"].tolist()) if key in lesions]
    jaccard = evaluation.table["jaccard"][own]
    return {
        which: [own[index] for index in choose(jaccard.tolist(), which, SHEET_IMAGES, seed=0)]
        for which in SHEETS
    }


def make_cards(
    evaluation: Evaluation,
    lesions: dict[int, LesionImage],
    sheets: dict[str, list[int]],
    limit: int,
) -> list[Card]:
    """Read every image once and return a card for each row of the table.

    Where there is no room for all pictures, those of the contact sheets and of the lowest Jaccard
    indices are made.

    Args:
        evaluation: with all columns.
        lesions: of the data set, by id.
        sheets: rows of the contact sheets.
        limit: the most bytes of all pictures.

    Raises:
        LesionError: an image or a submitted mask cannot be read.
    """
    columns = {name: values.tolist() for name, values in evaluation.table.items()}
    ids = columns["image_id"]
    worst = np.argsort(evaluation.table["jaccard"], kind="stable").tolist()
    wanted = [row for rows in (*sheets.values(), worst) for row in rows if ids[row] in lesions]
    shown = set(list(dict.fromkeys(wanted))[: limit // LEAST_PICTURE])
    room = limit / max(1, len(shown))

    cards = []
    for row, image_id in enumerate(progress_bar(ids, "pictures", unit="image")):
        lesion = lesions[image_id % FLIP_ID_STEP]
        thumbnail, facts = look_at(lesion)
        picture = None
        if row in shown:
            mask = read_submitted(evaluation.folder, lesion).astype(np.float32)
            picture = make_picture(thumbnail, mask, room)
        cards.append(Card({name: column[row] for name, column in columns.items()}, facts, picture))
    return cards
