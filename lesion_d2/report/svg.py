"""Matplotlib figures as SVG inside a page, in the page's colours."""

import io
import re

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from lesion_d2.figures.style import FIRST_COLOUR, QUIET_COLOUR, SECOND_COLOUR

# Colours of the figures -> what the page's style sheet says, light or dark.
_PAGE_COLOURS = {
    "#000000": "currentColor",
    "#ffffff": "var(--surface)",
    FIRST_COLOUR.lower(): "var(--first)",
    SECOND_COLOUR.lower(): "var(--second)",
    QUIET_COLOUR.lower(): "var(--quiet)",
}


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return a figure as an ``<svg>`` element that has no width of its own.

    Text becomes outlines, so that it looks the same everywhere.

    Args:
        figure: to draw.
        name: of the element; unique in the page, letters only.
        description: what it shows, for those who cannot see it.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    svg = stream.getvalue()
    root = re.search(r'<svg [^>]*viewBox="([\d. ]+)"[^>]*>', svg)
    assert root
    body = svg[root.end() :]
    # Ids are unique in a file, not in a page of several.
    body = re.sub(r' id="', f' id="{name}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = body.replace('xlink:href="data:', 'href="data:').replace("url(#", f"url(#{name}-")
    for colour, variable in _PAGE_COLOURS.items():
        body = re.sub(colour, variable, body, flags=re.IGNORECASE)
    label = escape(description)
    start = f'<svg class="chart" viewBox="{root[1]}" role="img" aria-label="{label}">'
    return Markup(start + re.sub(r"\s*\n\s*", "\n", body))
