"""What the colour augmentations do to an image. Unlike its neighbours it imports Detectron2."""

import re
from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from matplotlib.figure import Figure

from lesion_d2.data.augmentation import build_colour_augmentation
from lesion_d2.data.converted import LesionImage
from lesion_d2.figures.style import (
    TRUTH_COLOUR,
    draw_outline,
    image_grid,
    outline_legend,
    show_image,
)

SUBSETS_SHOWN = 3
PANELS_A_ROW = 4

# (title, RGB image of shape (H, W, 3), uint8) of each panel, the original first; the lesion's mask,
# bool, shape (H, W).
AugmentedImage = tuple[list[tuple[str, np.ndarray]], np.ndarray]


def describe_ranges(cfg: CfgNode) -> str:
    """Return the ranges of ``cfg.INPUT.COLOUR`` in words."""
    keys = ("BLUR_SIGMA", "DROPOUT_COUNT", "DROPOUT_SIDE", "BRIGHTNESS", "SHARPEN")
    blur, count, side, brightness, sharpen = (
        "{:g} to {:g}".format(*cfg.INPUT.COLOUR[key]) for key in keys
    )
    return (
        f"drawn from: blur sigma {blur} pixels; {count} rectangles, sides {side} of the image's;\n"
        f"brightness {brightness} grey levels; share of the sharpened copy {sharpen}"
    )


def augment(images: Sequence[LesionImage], cfg: CfgNode, seed: int) -> list[AugmentedImage]:
    """Apply each augmentation of ``cfg.INPUT.COLOUR`` by itself, then random subsets of them.

    They draw from numpy's global generator, which takes ``seed``.

    Raises:
        LesionError: an image file cannot be read.
    """
    subset = build_colour_augmentation(cfg)
    np.random.seed(seed)  # noqa: NPY002
    augmented = []
    for lesion in images:
        image = lesion.read_rgb()
        panels = [(lesion.isic_id, image)]
        for augmentation in subset.augmentations:
            words = re.sub(r"(?<!^)([A-Z])", r" \1", type(augmentation).__name__).lower()
            aug_input = T.AugInput(image)
            augmentation(aug_input)
            panels.append((words.removeprefix("random "), aug_input.image))
        for _ in range(SUBSETS_SHOWN):
            aug_input = T.AugInput(image)
            applied = len(subset(aug_input).transforms)
            title = f"random subset: {applied} of {len(subset.augmentations)}"
            panels.append((title, aug_input.image))
        augmented.append((panels, lesion.read_mask()))
    return augmented


def augmentations_figure(examples: Sequence[AugmentedImage], title: str) -> Figure:
    """Draw the original and the variants of each image, all with the one mask."""
    rows = -(-len(examples[0][0]) // PANELS_A_ROW)
    figure, axes = image_grid(rows * len(examples), PANELS_A_ROW, title)
    for (panels, mask), block in zip(examples, axes.reshape(len(examples), -1), strict=True):
        for (panel_title, image), ax in zip(panels, block, strict=False):
            show_image(ax, image, panel_title)
            draw_outline(ax, mask, TRUTH_COLOUR, 1)
    outline_legend(figure, {"mask, the same in every panel": TRUTH_COLOUR})
    return figure
