"""Images beside the same images with their masks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from lesion_d2.data.converted import LesionImage
from lesion_d2.figures.style import (
    TRUTH_COLOUR,
    draw_outline,
    image_pairs,
    outline_legend,
    show_image,
)


def samples_figure(images: Sequence[LesionImage], title: str) -> Figure:
    """Draw each image beside itself with the lesion tinted and outlined, two pairs a row.

    Args:
        images: at least one.
        title: of the figure; say which data set and split the images come from.

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
