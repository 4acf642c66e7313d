"""Small pictures with outlines."""

import base64
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from lesion_d2.figures.style import outlines
from lesion_d2.images.scaling import fit
from lesion_d2.report.facts import Thumbnail

JPEG_QUALITY = 80
# Outlines are drawn in quarters of a pixel and may be this far off, in pixels.
UNITS = 4
TOLERANCE = 0.3
# What the page writes around a picture and its outlines, in bytes.
MARKUP_BYTES = 700


class Picture(NamedTuple):
    """An image with its outlines, ready for the page.

    Attributes:
        jpeg: the image, base64.
        width: of the image, in pixels.
        height: likewise.
        truth: SVG path of the annotated outline, in quarters of a pixel; empty without a lesion.
        prediction: likewise of the submitted mask.
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


def make_picture(thumbnail: Thumbnail, prediction: npt.NDArray[np.float32], side: int) -> Picture:
    """Return a picture.

    Args:
        thumbnail: the image and its ground truth.
        prediction: the submitted mask, of any size that has the image's proportions.
        side: of the picture, the longer one, at most that of the thumbnail, in pixels.
    """
    rgb = fit(thumbnail.rgb, side)
    size = rgb.shape[1::-1]
    paths = [
        _path(cv2.resize(mask, size, interpolation=cv2.INTER_AREA))
        for mask in (thumbnail.truth, prediction)
    ]
    _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return Picture(base64.b64encode(jpeg.tobytes()).decode("ascii"), *size, *paths)


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
