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
# The longer side of a picture in pixels, and of how many images on it is the small one.
SIDE, SMALL_SIDE = 256, 128
MANY_IMAGES = 800


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
    room: float,
) -> list[Card]:
    """Read every image once and return a card for each row of the table.

    The contact sheets have all their pictures. Others are made from the lowest Jaccard index on,
    as long as there is room.

    Args:
        evaluation: with all columns.
        lesions: of the data set, by id.
        sheets: rows of the contact sheets.
        room: bytes for all pictures.

    Raises:
        LesionError: an image or a submitted mask cannot be read.
    """
    columns = {name: values.tolist() for name, values in evaluation.table.items()}
    ids = columns["image_id"]
    side = SIDE if len(ids) <= MANY_IMAGES else SMALL_SIDE
    on_sheets = {row for rows in sheets.values() for row in rows}
    worst = np.argsort(evaluation.table["jaccard"], kind="stable").tolist()
    cards = {}
    for row in progress_bar(
        sorted(worst, key=lambda row: row not in on_sheets), "pictures", unit="image"
    ):
        lesion = lesions[ids[row] % FLIP_ID_STEP]
        thumbnail, facts = look_at(lesion)
        picture = None
        if row in on_sheets or (room > 0 and ids[row] in lesions):
            mask = read_submitted(evaluation.folder, lesion).astype(np.float32)
            picture = make_picture(thumbnail, mask, side)
            room -= picture.size
        scores = {name: column[row] for name, column in columns.items()}
        cards[row] = Card(scores, facts, picture)
    return [cards[row] for row in range(len(ids))]
