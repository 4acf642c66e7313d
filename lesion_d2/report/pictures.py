"""Small pictures with outlines, within a number of bytes."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from contourpy import contour_generator

from lesion_d2.errors import LesionError
from lesion_d2.report.facts import Thumbnail, shrink
from lesion_d2.results.evaluation import REMEDY

JPEG_QUALITY = 80
SHRINK_STEP = 0.85
# Outlines are drawn in quarters of a pixel and may be this far off, in pixels.
UNITS = 4
TOLERANCE = 0.3
# What the page writes around a picture and its outlines, in bytes.
MARKUP_BYTES = 700


@dataclass(frozen=True)
class Picture:
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


def read_submission(eval_dir: Path, isic_id: str) -> npt.NDArray[np.float32]:
    """Return the submitted mask of an image, 1 in the lesion, else 0, shape (H, W).

    Raises:
        LesionError: the file is missing or not a picture.
    """
    path = eval_dir / "submission" / f"{isic_id}_segmentation.png"
    data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    mask = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if mask is None:
        raise LesionError(f"{path}: not a readable mask; {REMEDY}")
    return (mask > 127).astype(np.float32)


def make_picture(
    thumbnail: Thumbnail, prediction: npt.NDArray[np.float32], limit: float
) -> Picture:
    """Return a picture as large as ``limit`` allows.

    Args:
        thumbnail: the image and its ground truth.
        prediction: the submitted mask, of any size that has the image's proportions.
        limit: the most bytes in the page.
    """
    side = float(max(thumbnail.truth.shape))
    picture = _picture(thumbnail, prediction, side)
    while picture.size > limit and side > 1:
        side *= SHRINK_STEP
        picture = _picture(thumbnail, prediction, side)
    return picture


def _picture(thumbnail: Thumbnail, prediction: npt.NDArray[np.float32], side: float) -> Picture:
    rgb = shrink(thumbnail.rgb, side)
    height, width = rgb.shape[:2]
    outlines = [
        _outline(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA))
        for mask in (thumbnail.truth, prediction)
    ]
    _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return Picture(base64.b64encode(jpeg.tobytes()).decode("ascii"), width, height, *outlines)


def _outline(mask: np.ndarray) -> str:
    """Return the SVG path along which ``mask`` passes one half."""
    # A ring of background closes the outline of a lesion that touches the image's border;
    # it is as far away as a pixel's centre from its edge.
    padded = np.pad(mask, 1)
    path = []
    lines: Any = contour_generator(z=padded).lines(0.5)
    for line in lines:
        # In the padded mask the first pixel's centre is at 1; in the picture it is at one half.
        points = cv2.approxPolyDP(line.astype(np.float32) - 0.5, TOLERANCE, True)[:, 0]
        points = np.rint(points * UNITS).astype(int)
        # A dot has one point alone, and a step of no length to be drawn.
        steps = np.diff(points, axis=0).tolist() or [[0, 0]]
        words = " ".join(f"{dx} {dy}" for dx, dy in steps)
        path.append(f"M{points[0, 0]} {points[0, 1]}l{words}z")
    return "".join(path).replace(" -", "-")
