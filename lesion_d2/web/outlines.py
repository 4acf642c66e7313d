"""What the page and the API say of a picture and of an outline: plain values for JSON."""

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator
from typing_extensions import Self

from lesion_d2.errors import LesionError
from lesion_d2.images.fill import fill_rings
from lesion_d2.images.masks import mask_png
from lesion_d2.images.polygons import count_corners, mask_polygons
from lesion_d2.images.reading import MAX_PIXELS
from lesion_d2.images.scaling import fit
from lesion_d2.prediction.confidence import word_for
from lesion_d2.prediction.lesion import Lesion
from lesion_d2.prediction.predictor import LesionPredictor, outline_image
from lesion_d2.results.formats import coco_annotation, coco_content, coco_image, labelme_content

PICTURE_SIDE = 2048  # of the picture that the page shows
# How far a line of the outline for editing may lie from the exact one: in pixels of a picture whose
# longer side is 1,024 or less, and of a picture of this size where it is larger.
TOLERANCE = 1.25
# Of a mask's polygons. A few stripes that cross are a chequerboard of millions, and gigabytes.
MAX_CORNERS = 200_000
MAX_COLLECTED = 24_000_000_000  # pixels of all masks in one file: a thousand of 24 megapixels
_NO_NAME = re.compile(r"[^\w .()+-]|^\.+")

# The first wrong item of a list is said: a record of each would take a hundred times its bytes.
Point = tuple[float, float]
Ring = Annotated[list[Point], Field(fail_fast=True)]
Rings = Annotated[list[Ring], Field(fail_fast=True)]
Border = Annotated[list[tuple[int, int]], Field(fail_fast=True)]
Name = Annotated[str, Field(max_length=4096)]
Packing = Literal["masks", "coco", "labelme"]


class Region(BaseModel):
    """A region and its holes, on the borders of pixels; the first corner is not repeated."""

    exterior: Border
    holes: Annotated[list[Border], Field(fail_fast=True)]


class Shape(BaseModel):
    """An outline in a picture of ``width`` x ``height`` pixels."""

    width: int
    height: int
    polygons: list[Region] = Field(description="filled, they give the mask exactly")
    rings: list[Ring] = Field(description="the outline with few corners, as the page edits it")
    box: tuple[int, int, int, int] = Field(description="x0, y0, x1, y1; zeros for an empty mask")
    area_pixels: int
    longest_diameter_pixels: float


class Outline(Shape):
    """What the model finds in a picture."""

    score: float
    estimated_iou: float | None
    word: str | None = Field(description="sure, look again or unsure: see docs/serve.md")
    model_sha256: str
    picture: str | None = Field(default=None, description="as it is to be seen, a JPEG")


class Frame(BaseModel):
    """The size of a picture, in pixels."""

    width: int = Field(ge=1)
    height: int = Field(ge=1)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.width * self.height > MAX_PIXELS:
            raise ValueError(f"a picture has at most {MAX_PIXELS:,} pixels")
        return self


class Drawn(Frame):
    """An outline drawn by hand: a ring inside a ring is a hole."""

    rings: Rings


class Named(Frame):
    """A picture's outline, for a file of several; its folders stay inside that file."""

    name: Name
    polygons: Annotated[list[Region], Field(fail_fast=True)]
    score: float | None = Field(default=None, description="of the model's outline, not corrected")
    estimated_iou: float | None = None

    @property
    def scores(self) -> dict[str, float]:
        """The numbers that are known, by name."""
        scores = {"score": self.score, "estimated_iou": self.estimated_iou}
        return {name: value for name, value in scores.items() if value is not None}


class Collection(BaseModel):
    """What is downloaded in one file."""

    pictures: list[Named] = Field(min_length=1, max_length=1000, fail_fast=True)
    before: list[Name] = Field(
        default=[],
        max_length=100_000,
        fail_fast=True,
        description="names of the pictures in the files that came before this one",
    )

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if sum(p.width * p.height for p in self.pictures) > MAX_COLLECTED:
            raise ValueError(f"pictures of one file have at most {MAX_COLLECTED:,} pixels")
        return self


def outline_picture(
    predictor: LesionPredictor, data: bytes, picture: bool
) -> tuple[Outline, Lesion]:
    """Outline the bytes of an image file; with ``picture`` the answer holds what was seen.

    Raises:
        BadFileError: it cannot be read.
    """
    lesion, image = outline_image(predictor, data, PICTURE_SIDE if picture else 0)
    estimated = lesion.estimated_iou
    outline = Outline(
        **_measures(lesion),
        score=lesion.score,
        estimated_iou=estimated,
        word=word_for(estimated),
        model_sha256=predictor.settings["weights_sha256"],
        picture=_data_url(picture_jpeg(image)) if picture else None,
    )
    return outline, lesion


def describe_mask(mask: npt.NDArray[np.bool_]) -> Shape:
    """Return the outline of a mask of shape (H, W) and its measures."""
    return Shape(**_measures(Lesion(mask, 0.0, 0, 0.0, 0.0, 0.0, 0.0)))


def drawn_mask(drawn: Drawn) -> npt.NDArray[np.bool_]:
    """Return the mask of a drawn outline: the pixels whose centre is inside.

    Raises:
        LesionError: the outline cannot be filled, or has too many corners.
    """
    return _filled(drawn.rings, drawn)


def picture_jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    """Return BGR pixels as the page shows them, longer side at most 2,048 pixels."""
    _, data = cv2.imencode(".jpg", fit(image, PICTURE_SIDE), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return data.tobytes()


def pack_outlines(
    pictures: Iterable[Named], form: Packing, model: dict[str, Any], before: Sequence[str] = ()
) -> bytes:
    """Return one file of several outlines.

    Args:
        pictures: the outlines.
        form: ``masks`` and ``labelme`` give a zip, ``coco`` JSON.
        model: what is known of the model, for the formats that can hold it.
        before: names of the pictures in earlier files: no name and no id of theirs is in this one.

    Raises:
        LesionError: an outline cannot be filled, or has too many corners.
    """
    packed = io.BytesIO()
    images, annotations, taken = [], [], dict[str, int]()
    for name in before:
        plain_name(name, taken)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, picture in enumerate(pictures, len(before) + 1):
            stem, suffix = plain_name(picture.name, taken)
            mask = _filled(_all_rings(picture.polygons), picture)
            if form == "masks":
                archive.writestr(f"{stem}_segmentation.png", mask_png(mask))
            elif form == "labelme":
                record = {**model, **picture.scores}
                photograph = PurePosixPath(stem).name + suffix  # beside it
                content = labelme_content(mask, mask_polygons(mask), photograph, record)
                archive.writestr(f"{stem}.json", json.dumps(content))
            else:
                images.append(coco_image(mask, stem + suffix, number))
                if mask.any():
                    annotations.append(coco_annotation(mask, number, picture.scores))
    if form == "coco":
        return json.dumps(coco_content(images, annotations, model)).encode()
    return packed.getvalue()


def plain_name(name: str, taken: dict[str, int]) -> tuple[str, str]:
    """Return a client's file name as a stem that leads out of no folder, and a suffix.

    Args:
        name: with the folders that the client gives.
        taken: the stems so far, without regard to case, and the last number given to each; the new
            one is not among them.
    """
    *folders, last = re.split(r"[/\\]", name)
    start, dot, end = last.rpartition(".")
    parts = [*(part for part in folders if part not in ("", ".", "..")), start or last]
    plain = [_NO_NAME.sub("_", part)[:100].strip() or "photograph" for part in parts]
    free = stem = "/".join(plain)
    number = taken.get(stem.casefold(), 1)
    while free.casefold() in taken:
        number += 1
        free = f"{stem} ({number})"
    taken[stem.casefold()] = number
    taken.setdefault(free.casefold(), 1)
    return free, dot + end if start and end.isalnum() and len(end) <= 5 else ""


def _filled(rings: Sequence[Sequence[Point]], frame: Frame) -> npt.NDArray[np.bool_]:
    mask = fill_rings(rings, (frame.height, frame.width))
    if count_corners(mask) > MAX_CORNERS:
        detail = f"filled, it has more than {MAX_CORNERS:,} corners; draw fewer lines that cross"
        raise LesionError(f"outline: {detail}")
    return mask


def _measures(lesion: Lesion) -> dict[str, Any]:
    height, width = lesion.mask.shape
    polygons = mask_polygons(lesion.mask)
    tolerance = TOLERANCE * max(1.0, max(height, width) / 1024)
    rings = [_simplified(r, tolerance) for p in polygons for r in (p.exterior, *p.holes)]
    return {
        "width": width,
        "height": height,
        "polygons": [
            {"exterior": p.exterior.tolist(), "holes": [hole.tolist() for hole in p.holes]}
            for p in polygons
        ],
        "rings": rings,
        "box": lesion.box,
        "area_pixels": int(np.count_nonzero(lesion.mask)),
        "longest_diameter_pixels": round(lesion.longest_diameter, 2),
    }


def _simplified(ring: npt.NDArray[np.int32], tolerance: float) -> list[list[int]]:
    fewer = cv2.approxPolyDP(ring[:, None], tolerance, True)[:, 0]
    return (fewer if len(fewer) > 2 else ring).tolist()


def _all_rings(polygons: Sequence[Region]) -> list[list[tuple[int, int]]]:
    return [ring for polygon in polygons for ring in (polygon.exterior, *polygon.holes)]


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
