"""Colours, charts, image panels, outlines and saving that all figures share.

Figures are built with matplotlib's object interface and never touch pyplot, so drawing one
changes no global state and needs no display.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from lesion_d2.files import atomic_write

# From the palette of Okabe and Ito (2008), which stays apart under colour blindness.
# The two outline colours are its bright ones: they have to show on skin and on dark lesions.
TRUTH_COLOUR = "#56B4E9"
PREDICTION_COLOUR = "#F0E442"
FIRST_COLOUR = "#0072B2"
SECOND_COLOUR = "#D55E00"
QUIET_COLOUR = "#767676"

PANEL_INCHES = 2.5
DPI = 100
# Half a page's width on a screen, all of it on a phone: text stays legible on both.
CHART_INCHES = (5.4, 4.0)
CHART_DPI = 180


def new_figure(width: float, height: float, dpi: int = DPI) -> Figure:
    """Return an empty figure of ``width`` x ``height`` inches that lays itself out."""
    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def new_chart(title: str = "", **properties: Any) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, whose ``properties`` are set."""
    figure = new_figure(*CHART_INCHES, CHART_DPI)
    figure.suptitle(title, fontsize=10)
    ax = figure.subplots()
    ax.set(**properties)
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def image_grid(rows: int, columns: int, title: str) -> tuple[Figure, np.ndarray]:
    """Return a figure for images in a grid, and its axes as an array of shape (rows, columns).

    The axes are blank until :func:`show_image` fills them.
    """
    # Dermoscopy images are mostly 4:3; the rest is room for each panel's title.
    figure = new_figure(PANEL_INCHES * columns, (PANEL_INCHES * 0.75 + 0.35) * rows + 0.8)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    figure.suptitle(title, fontsize=12)
    return figure, axes


def image_pairs(count: int, title: str, pairs_a_row: int = 2) -> tuple[Figure, np.ndarray]:
    """Return a figure for pairs of images, and its axes as an array of shape (pairs, 2)."""
    rows = -(-count // pairs_a_row)
    figure, axes = image_grid(rows, 2 * min(count, pairs_a_row), title)
    return figure, axes.reshape(-1, 2)[:count]


def show_image(ax: Axes, image: np.ndarray, title: str = "") -> None:
    """Show ``image`` (RGB, uint8, shape (H, W, 3)), its pixel centres at whole coordinates."""
    ax.imshow(image, interpolation="antialiased")
    ax.set_title(title, fontsize=9)


def outlines(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the closed lines along which ``mask`` passes one half.

    They run along the border between pixels, not through the centres of the border pixels, so
    that a one-pixel mask still shows and neither side of an IoU is drawn smaller than it is.

    Args:
        mask: shape (H, W), bool, or the share of each pixel that is lesion.

    Yields:
        float64 of shape (N, 2): x and y, with pixel centres at whole coordinates.
    """
    # A ring of background closes the outline of a lesion that touches the image's border.
    padded = np.pad(mask.astype(np.float32), 1)
    for line in contour_generator(z=padded).lines(0.5):
        yield np.asarray(line) - 1


def draw_outline(ax: Axes, mask: np.ndarray, colour: str, width: float = 1.5, **style: Any) -> None:
    """Draw the outline of ``mask``, bool, shape (H, W); ``style`` goes to ``PolyCollection``."""
    if not mask.any():
        return
    lines = PolyCollection(
        list(outlines(mask)), facecolors="none", edgecolors=colour, linewidths=width, **style
    )
    lines.set_path_effects([withStroke(linewidth=width + 1, foreground="black")])
    ax.add_collection(lines, autolim=False)


def outline_legend(figure: Figure, colours: dict[str, str], **style: Any) -> None:
    """Put a legend under the panels: label -> colour of an outline."""
    halo = [withStroke(linewidth=3.5, foreground="black")]
    lines = [
        Line2D([], [], color=colour, linewidth=2, path_effects=halo, label=label)
        for label, colour in colours.items()
    ]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, **style
    )


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write ``figure`` to ``path`` as PNG, whole or not at all, and return the path."""
    with atomic_write(path, "wb") as stream:
        figure.savefig(stream, format="png")
    return Path(path)
