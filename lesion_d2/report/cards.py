"""The images of an evaluation as the page shows them: rows, pictures, contact sheets."""

from dataclasses import dataclass

import numpy as np

from lesion_d2.data.converted import FLIP_ID_STEP, LesionImage
from lesion_d2.evaluation.evaluation import Evaluation
from lesion_d2.figures.predictions import choose
from lesion_d2.parallel import progress_bar
from lesion_d2.report.facts import Facts, look_at
from lesion_d2.report.pictures import Picture, make_picture, read_submission

SHEETS = {"worst": "worst", "median": "nearest to the median", "best": "best"}
SHEET_IMAGES = 20
# A picture of fewer bytes is not worth looking at.
LEAST_PICTURE = 5_000


@dataclass(frozen=True)
class Card:
    """An evaluated image.

    Attributes:
        image_id: unique.
        isic_id: the image's name.
        jaccard: of the submitted mask.
        score: of the submitted mask.
        estimated: IoU; NaN where there was no confidence model.
        facts: of the ground truth.
        picture: None where there is no room for it, or the image is a flipped copy.
    """

    image_id: int
    isic_id: str
    jaccard: float
    score: float
    estimated: float
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
    table = evaluation.table
    ids = table["image_id"].tolist()
    worst = np.argsort(table["jaccard"], kind="stable").tolist()
    wanted = [row for rows in sheets.values() for row in rows] + worst
    wanted = [row for row in dict.fromkeys(wanted) if ids[row] in lesions]
    shown = set(wanted[: limit // LEAST_PICTURE])
    room = limit / max(1, len(shown))

    cards = []
    for row, image_id in enumerate(progress_bar(ids, "pictures", unit="image")):
        isic_id = str(table["isic_id"][row])
        thumbnail, facts = look_at(lesions[image_id % FLIP_ID_STEP])
        picture = None
        if row in shown:
            mask = read_submission(evaluation.folder, isic_id)
            picture = make_picture(thumbnail, mask, room)
        cards.append(
            Card(
                image_id=image_id,
                isic_id=isic_id,
                jaccard=float(table["jaccard"][row]),
                score=float(table["score"][row]),
                estimated=float(table["estimated_iou"][row]),
                facts=facts,
                picture=picture,
            )
        )
    return cards
