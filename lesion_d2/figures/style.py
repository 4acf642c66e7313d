"""Colours, image panels and saving that all figures share.

Figures are built with matplotlib's object interface and never touch pyplot, so drawing one
changes no global state and needs no display.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
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


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of ``width`` x ``height`` inches that lays itself out."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


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


def show_image(ax: Axes, image: np.ndarray, title: str = "") -> None:
    """Show ``image`` (RGB, uint8, shape (H, W, 3)), its pixel centres at whole coordinates."""
    ax.imshow(image, interpolation="antialiased")
    ax.set_title(title, fontsize=9)


def draw_outline(ax: Axes, mask: np.ndarray, colour: str, **style: Any) -> None:
    """Draw the edge of ``mask`` (bool or uint8, shape (H, W), non-zero is lesion).

    The line runs along the border between pixels, not through the centres of the border pixels,
    so that a one-pixel mask still shows and neither side of an IoU is drawn smaller than it is.
    ``style`` goes to :meth:`matplotlib.axes.Axes.contour`.
    """
    if not mask.any():
        return
    height, width = mask.shape
    # A ring of background closes the outline of a lesion that touches the image's border.
    padded = np.pad(mask.astype(bool), 1).astype(np.float32)
    style = {"linewidths": 1.5, **style}
    outline = ax.contour(
        np.arange(-1, width + 1), np.arange(-1, height + 1), padded, [0.5], colors=[colour], **style
    )
    outline.set_path_effects([withStroke(linewidth=style["linewidths"] + 1, foreground="black")])


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
