"""Images beside their ground truth, and with predictions."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.colors import to_rgba
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

# An evaluated image, and COCO results (``segmentation``, ``score`` and ``iou`` in [0, 1]) on it.
PredictedImage = tuple[LesionImage, list[dict[str, Any]]]


def choose(max_iou: Sequence[float], which: str, count: int, seed: int) -> list[int]:
    """Return the indices of up to ``count`` images.

    ``which`` is ``random``, ``best`` or ``worst`` (from the extreme inwards), or ``median`` (those
    nearest to it); ``seed`` is that of the random choice.
    """
    values = np.asarray(max_iou, float)
    order = {
        "random": lambda: np.random.default_rng(seed).permutation(len(values)),
        "best": lambda: np.argsort(-values, kind="stable"),
        "median": lambda: np.argsort(np.abs(values - np.median(values)), kind="stable"),
        "worst": lambda: np.argsort(values, kind="stable"),
    }[which]()
    return [int(index) for index in order[:count]]


def samples_figure(images: Sequence[LesionImage], title: str) -> Figure:
    """Draw each image beside itself with the lesion tinted and outlined, two pairs a row.

    Raises:
        LesionError: an image file cannot be read.
    """
    figure, axes = image_pairs(len(images), title)
    for (plain, masked), lesion in zip(axes, images, strict=True):
        image, mask = lesion.read_rgb(), lesion.read_mask()
        share = f"lesion {mask.mean():.0%} of the image" if mask.any() else "no lesion"
        show_image(plain, image, f"{lesion.isic_id}, {lesion.width} x {lesion.height}")
        show_image(masked, image, share)
        masked.imshow(mask[..., None] * np.array(to_rgba(TRUTH_COLOUR, 0.3)))
        draw_outline(masked, mask, TRUTH_COLOUR)
    outline_legend(figure, {"ground-truth mask": TRUTH_COLOUR})
    return figure


def predictions_figure(images: Sequence[PredictedImage], title: str) -> Figure:
    """Draw for each image its ground truth on the left and every predicted instance on the right.

    The instance with the largest IoU, which is the one that counts, is solid, others are dashed.

    Raises:
        LesionError: an image file cannot be read, or a mask is of another size.
    """
    figure, axes = image_pairs(len(images), title)
    for (left, right), (lesion, instances) in zip(axes, images, strict=True):
        image, truth = lesion.read_rgb(), lesion.read_mask()
        show_image(left, image, lesion.isic_id)
        draw_outline(left, truth, TRUTH_COLOUR)
        ascending = sorted(instances, key=lambda instance: instance["iou"])
        verdict = "nothing found, IoU 0"
        if ascending:
            verdict = "score {score:.2f}, IoU {iou:.2f}".format(**ascending[-1])
        if len(ascending) > 1:
            verdict += f" (best of {len(ascending)})"
        show_image(right, image, verdict)
        draw_outline(right, truth, TRUTH_COLOUR, 1)
        for instance in ascending:
            mask = _instance_mask(instance["segmentation"], lesion)
            style = "solid" if instance is ascending[-1] else "dashed"
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
