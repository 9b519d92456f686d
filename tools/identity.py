"""Draw the mark of the project and the card that shows where somebody shares a link.

The mark is four matrices of four triplets: filled are those that an allocation keeps.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

SITE = Path(__file__).parents[1] / "docs" / "site"
PALETTE = SITE / "palette.css"
ICON = SITE / "theme" / ".icons" / "adalora" / "mark.svg"
FAVICON, CARD = SITE / "favicon.svg", SITE / "card.png"
KEPT = (2, 4, 1, 3)
"""The rank of each matrix, of four."""
CELL, GAP = 3, 1
"""In pixels of a picture of 16, so that a favicon has sharp edges."""
DROPPED = 0.28
"""How much of its colour a dropped triplet keeps."""
WIDTH, HEIGHT, DPI = 1200, 630, 110
LINES = (
    (210, "adalora-core", 46, "text"),
    (290, "Finds the line that keeps", 24, "quiet"),
    (335, "AdaLoRA from working,", 24, "quiet"),
    (380, "and trains AdaLoRA for", 24, "quiet"),
    (425, "the price of plain LoRA.", 24, "quiet"),
)


def cells() -> Iterator[tuple[int, int, bool]]:
    """Yield the left and upper edge of each triplet in a square of 15, and whether it is kept."""
    for column, kept in enumerate(KEPT):
        for row in range(len(KEPT)):
            yield column * (CELL + GAP), row * (CELL + GAP), row >= len(KEPT) - kept


def mark(style: str = "") -> str:
    """Return the mark as SVG, in the colour of the text around it or in that of `style`."""
    opacity = {True: "", False: f' opacity="{DROPPED}"'}
    drawn = "".join(
        f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}"{opacity[is_kept]}/>'
        for x, y, is_kept in cells()
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{style}{drawn}</svg>\n'


def palette(scheme: str) -> dict[str, str]:
    """Return the colours of the site in a scheme by their names."""
    block = PALETTE.read_text(encoding="utf-8").partition(f'[data-md-color-scheme="{scheme}"] {{')[
        2
    ]
    return dict(re.findall(r"--ada-([\w-]+): (#[0-9a-f]{6});", block.partition("}")[0]))


def favicon() -> str:
    """Return the mark in the accent of the light or the dark colours, as the browser asks."""
    light, dark = (palette(scheme)["accent"] for scheme in ("default", "slate"))
    dark_rule = f"@media (prefers-color-scheme:dark){{rect{{fill:{dark}}}}}"
    return mark(f"<style>rect{{fill:{light}}}{dark_rule}</style>")


def card() -> Figure:
    """Draw the mark, the name and what the project does."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    colours = palette("slate")
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), facecolor=colours["back"])
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()
    size = 24
    for x, y, is_kept in cells():
        corner, alpha = (90 + x * size, 130 + y * size), 1 if is_kept else DROPPED
        square = Rectangle(corner, CELL * size, CELL * size, color=colours["accent"], alpha=alpha)
        square.set_linewidth(0)
        axes.add_patch(square)
    for y, text, points, colour in LINES:
        weight = "bold" if colour == "text" else "normal"
        axes.text(510, y, text, size=points, color=colours[colour], weight=weight)
    return figure
