"""Predictions beside the ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from lesion_d2.data.converted import LesionImage, decode_segmentation
from lesion_d2.figures.style import (
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    draw_outline,
    image_pairs,
    outline_legend,
    show_image,
)


@dataclass(frozen=True)
class PredictedImage:
    """An evaluated image.

    Attributes:
        lesion: the image and its ground truth.
        instances: COCO results (``segmentation``, ``score`` in [0, 1], ``iou`` in [0, 1]).
    """

    lesion: LesionImage
    instances: list[dict[str, Any]]

    def verdict(self) -> str:
        """Return score and IoU of the instance that counts, as a line of text."""
        if not self.instances:
            return "nothing found, IoU 0"
        best = max(self.instances, key=lambda instance: instance["iou"])
        text = f"score {best['score']:.2f}, IoU {best['iou']:.2f}"
        others = len(self.instances) - 1
        return text + (f" (best of {others + 1})" if others else "")


def choose(max_iou: Sequence[float], which: str, count: int, seed: int) -> list[int]:
    """Return the indices of up to ``count`` images.

    Args:
        max_iou: of each image.
        which: ``random``, ``best`` and ``worst`` (from the extreme inwards), or ``median``
            (those nearest to it).
        count: how many.
        seed: of the random choice.
    """
    values = np.asarray(max_iou, float)
    order = {
        "random": lambda: np.random.default_rng(seed).permutation(len(values)),
        "best": lambda: np.argsort(-values, kind="stable"),
        "median": lambda: np.argsort(np.abs(values - np.median(values)), kind="stable"),
        "worst": lambda: np.argsort(values, kind="stable"),
    }[which]()
    return [int(index) for index in order[:count]]


def predictions_figure(images: Sequence[PredictedImage], title: str) -> Figure:
    """Draw for each image its ground truth on the left and every predicted instance on the right.

    The instance with the largest IoU, which is the one that counts, is solid, others are dashed.

    Args:
        images: at least one.
        title: of the figure; say which data set, choice and score threshold it shows.

    Raises:
        LesionError: an image file cannot be read, or a mask is of another size.
    """
    figure, axes = image_pairs(len(images), title)
    for (left, right), predicted in zip(axes, images, strict=True):
        lesion = predicted.lesion
        image, truth = lesion.read_rgb(), lesion.read_mask()
        show_image(left, image, lesion.isic_id)
        draw_outline(left, truth, TRUTH_COLOUR)
        show_image(right, image, predicted.verdict())
        draw_outline(right, truth, TRUTH_COLOUR, 1)
        instances = sorted(predicted.instances, key=lambda instance: instance["iou"])
        for instance in instances:
            mask = _instance_mask(instance["segmentation"], lesion)
            style = "solid" if instance is instances[-1] else "dashed"
            draw_outline(right, mask, PREDICTION_COLOUR, linestyles=style)
    outline_legend(
        figure,
        {"ground truth": TRUTH_COLOUR, "prediction": PREDICTION_COLOUR},
        title="dashed: further instances of the same image",
    )
    return figure


def _instance_mask(segmentation: dict[str, Any], lesion: LesionImage) -> np.ndarray:
    """Return an instance's mask at the image's size; it may have been scored at the original's."""
    original = lesion.original_height, lesion.original_width
    if tuple(segmentation["size"]) != original:
        return decode_segmentation(segmentation, lesion.height, lesion.width)
    mask = decode_segmentation(segmentation, *original).astype(np.float32)
    size = (lesion.width, lesion.height)
    return cv2.resize(mask, size, interpolation=cv2.INTER_AREA) >= 0.5
