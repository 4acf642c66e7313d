"""The images of an evaluation as the page shows them: rows, pictures, contact sheets."""

import base64
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.data.coco import FLIP_ID_STEP
from lesion_d2.data.converted import LesionImage
from lesion_d2.evaluation.scores import Evaluation
from lesion_d2.figures.predictions import choose
from lesion_d2.figures.style import outlines
from lesion_d2.images.scaling import fit
from lesion_d2.parallel import progress_bar
from lesion_d2.report.facts import Facts, look_at
from lesion_d2.results.evaluation import read_submitted

SHEETS = {"worst": "worst", "median": "nearest to the median", "best": "best"}
SHEET_IMAGES = 20
# The longer side of a picture in pixels, and of how many images on it is the small one.
SIDE, SMALL_SIDE = 256, 128
MANY_IMAGES = 800
JPEG_QUALITY = 80
# Outlines are drawn in quarters of a pixel and may be this far off, in pixels.
UNITS = 4
TOLERANCE = 0.3
# What the page writes around a picture and its outlines, in bytes.
MARKUP_BYTES = 700


class Picture(NamedTuple):
    """A JPEG in base64, its size, and SVG paths of the annotated and the submitted outline.

    A path is in quarters of a pixel, and empty where there is no lesion.
    """

    jpeg: str
    width: int
    height: int
    truth: str
    prediction: str

    @property
    def view_box(self) -> str:
        """The area that the outlines are drawn in."""
        return f"0 0 {self.width * UNITS} {self.height * UNITS}"

    @property
    def size(self) -> int:
        """Bytes in the page, at most."""
        return len(self.jpeg) + len(self.truth) + len(self.prediction) + MARKUP_BYTES


class Card(NamedTuple):
    """An evaluated image."""

    scores: dict[str, Any]  # its row of ``per_image.csv``
    facts: Facts
    picture: Picture | None  # None where there is no room for it, or the image is a flipped copy


def choose_sheets(evaluation: Evaluation, lesions: dict[int, LesionImage]) -> dict[str, list[int]]:
    """Return the rows of each contact sheet, flipped copies left out; ``lesions`` are by id."""
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
    as long as there is room, in bytes.

    Raises:
        LesionError: an image or a submitted mask cannot be read.
    """
    columns = {name: values.tolist() for name, values in evaluation.table.items()}
    ids = columns["image_id"]
    side = SIDE if len(ids) <= MANY_IMAGES else SMALL_SIDE
    on_sheets = {row for rows in sheets.values() for row in rows}
    worst = np.argsort(evaluation.table["jaccard"], kind="stable").tolist()
    cards = {}
    order = sorted(worst, key=lambda row: row not in on_sheets)
    for row in progress_bar(order, "pictures", unit="image"):
        lesion = lesions[ids[row] % FLIP_ID_STEP]
        rgb, truth, facts = look_at(lesion)
        picture = None
        if row in on_sheets or (room > 0 and ids[row] in lesions):
            mask = read_submitted(evaluation.folder, lesion).astype(np.float32)
            picture = make_picture(rgb, truth, mask, side)
            room -= picture.size
        scores = {name: column[row] for name, column in columns.items()}
        cards[row] = Card(scores, facts, picture)
    return [cards[row] for row in range(len(ids))]


def make_picture(
    rgb: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.float32],
    prediction: npt.NDArray[np.float32],
    side: int,
) -> Picture:
    """Return an image of a longer side of at most ``side`` pixels with two outlines.

    The annotated and the submitted mask are of any size that has the image's proportions.
    """
    rgb = fit(rgb, side)
    height, width = rgb.shape[:2]
    paths = [
        _path(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA))
        for mask in (truth, prediction)
    ]
    _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return Picture(base64.b64encode(jpeg.tobytes()).decode("ascii"), width, height, *paths)


def _path(mask: np.ndarray) -> str:
    """Return the outlines of a mask as an SVG path; a pixel's centre is at one half there."""
    path = []
    for line in outlines(mask):
        points = cv2.approxPolyDP((line + 0.5).astype(np.float32), TOLERANCE, True)[:, 0]
        points = np.rint(points * UNITS).astype(int)
        # A dot has one point alone, and a step of no length to be drawn.
        steps = np.diff(points, axis=0).tolist() or [[0, 0]]
        words = " ".join(f"{dx} {dy}" for dx, dy in steps)
        path.append(f"M{points[0, 0]} {points[0, 1]}l{words}z")
    return "".join(path).replace(" -", "-")
