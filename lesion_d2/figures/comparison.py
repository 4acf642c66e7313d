"""Two evaluations of the same images: how the scores changed, and the images that changed most."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lesion_d2.evaluation.scores import Evaluation
from lesion_d2.figures.style import (
    FIRST_COLOUR,
    PREDICTION_COLOUR,
    QUIET_COLOUR,
    SECOND_COLOUR,
    TRUTH_COLOUR,
    draw_outline,
    image_grid,
    new_figure,
    outline_legend,
    show_image,
)
from lesion_d2.results.evaluation import evaluated_lesions, read_submitted

IMAGES_A_ROW = 4
MARGIN = 1.4  # side of a panel, in sides of what is outlined


def changes_figure(
    baseline: np.ndarray,
    values: np.ndarray,
    names: tuple[str, str],
    metric: str,
    interval: tuple[float, float],
    title: str,
) -> Figure:
    """Draw the two scores of each of N images, in [0, 1], and the distribution of differences.

    ``names`` are those of the two evaluations; ``interval`` is the mean difference's of 95 %.
    """
    difference = values - baseline
    figure = new_figure(12, 6)
    scatter, histogram = figure.subplots(1, 2)
    for chosen, colour, label in (
        (difference > 0, FIRST_COLOUR, "better"),
        (difference < 0, SECOND_COLOUR, "worse"),
        (difference == 0, QUIET_COLOUR, "equal"),
    ):
        text = f"{label}: {chosen.sum():,} images"
        scatter.scatter(baseline[chosen], values[chosen], 14, color=colour, alpha=0.6, label=text)
    scatter.plot([0, 1], [0, 1], "--", color=QUIET_COLOUR, linewidth=1)
    scatter.set(
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
        aspect="equal",
        xlabel=names[0],
        ylabel=names[1],
        title=f"{metric} of each image",
    )
    scatter.legend(loc="lower right")
    reach = max(float(np.abs(difference).max()), 0.01)
    histogram.hist(difference, bins=np.linspace(-reach, reach, 42), color=FIRST_COLOUR, alpha=0.6)
    histogram.axvline(0, color=QUIET_COLOUR, linestyle="--", linewidth=1)
    histogram.axvline(difference.mean(), color="black")
    histogram.axvspan(*interval, color="black", alpha=0.2)
    histogram.set(
        xlabel=f"difference in {metric}, the second minus the first",
        ylabel="images (logarithmic)",
        yscale="log",
        ylim=(0.5, None),
        title=f"mean difference {difference.mean():+.4f}, "
        f"95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}",
    )
    for ax in (scatter, histogram):
        ax.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


def changed_images_figure(
    changes: Sequence[tuple[int, float, float]],
    evaluations: tuple[Evaluation, Evaluation],
    dataset_dir: Path,
    names: tuple[str, str],
    title: str,
) -> Figure:
    """Draw lesions with the true outline and the two submitted ones, flipped copies left out.

    A panel shows the part of the image around the outlines. ``changes`` are image id and both
    scores, at least one; each evaluation has a folder ``submission``.

    Raises:
        LesionError: an image or a mask is missing, not readable or of another size.
    """
    lesions = evaluated_lesions(evaluations[0], dataset_dir)
    shown = [change for change in changes if change[0] in lesions]
    columns = max(1, min(len(shown), IMAGES_A_ROW))
    figure, axes = image_grid(max(1, -(-len(shown) // columns)), columns, title)
    colours = {
        "ground truth": TRUTH_COLOUR,
        names[0]: SECOND_COLOUR,
        names[1]: PREDICTION_COLOUR,
    }
    for ax, (image_id, baseline, value) in zip(axes.flat, shown, strict=False):
        lesion = lesions[image_id]
        show_image(ax, lesion.read_rgb(), f"{lesion.isic_id}: {baseline:.2f}, then {value:.2f}")
        masks = [lesion.read_mask(), *(read_submitted(item.folder, lesion) for item in evaluations)]
        for mask, colour in zip(masks, colours.values(), strict=True):
            draw_outline(ax, mask, colour, 1)
        _zoom(ax, np.logical_or.reduce(masks))
    outline_legend(figure, colours)
    return figure


def _zoom(ax: Axes, mask: np.ndarray) -> None:
    """Show the part of an image around ``mask``, in the image's own proportions."""
    if not mask.any():
        return
    places = np.argwhere(mask)
    size = np.array(mask.shape)
    low, high = places.min(0), places.max(0) + 1
    half = min(1.0, (MARGIN * (high - low) / size).max()) * size / 2
    centre = np.clip((low + high) / 2, half, size - half)
    (top, left), (bottom, right) = centre - half - 0.5, centre + half - 0.5
    ax.set(xlim=(left, right), ylim=(bottom, top))
