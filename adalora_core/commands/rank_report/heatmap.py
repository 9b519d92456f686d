"""Draw the rank of every matrix as a heat map of layers by module kinds."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING

from adalora_core.floor.escaping import shortened, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_LAYER = "-"
"""Column of modules whose path has no layer number."""
_LONGEST_LABEL = 120
"""Largest number of characters of a name in the picture."""
MOST_LAYERS, MOST_KINDS = 100, 24
"""Largest numbers of columns and rows that have a label and their full size."""
MOST_NUMBERS = 1000
"""Largest number of cells that show their number."""


def rank_table(ranks: Mapping[str, int]) -> tuple[list[str], list[str], dict[tuple[str, str], int]]:
    """Sort module paths into a table of module kinds (rows) by layers (columns).

    The layer is the first number in the path, and the kind is the path behind the number. The path
    before the number becomes part of the kind if it differs within the model (as in an encoder and
    a decoder).

    Returns:
        `(kinds, layers, {(kind, layer): rank})`, kinds in the order of the first layer, layers
        ascending.

    Example:
        >>> rank_table({"encoder.layer.0.query": 3, "encoder.layer.1.query": 5})
        (['query'], ['0', '1'], {('query', '0'): 3, ('query', '1'): 5})
    """
    places = [_place(path) for path in ranks]
    stems = {stem for stem, layer, _ in places if layer != NO_LAYER}
    cells: dict[tuple[str, str], int] = {}
    for (stem, layer, kind), rank in zip(places, ranks.values(), strict=True):
        named = f"{stem}: {kind}" if len(stems) > 1 and layer != NO_LAYER else kind
        cells[named, layer] = rank
    kinds = list(dict.fromkeys(kind for kind, _ in cells))
    layers = sorted(
        {layer for _, layer in cells}, key=lambda name: (name == NO_LAYER, name.zfill(9))
    )
    return kinds, layers, cells


def _place(path: str) -> tuple[str, str, str]:
    parts = path.split(".")
    for position, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[:position]), part, ".".join(parts[position + 1 :])
    return "", NO_LAYER, path


def rank_heatmap(ranks: Mapping[str, int], *, init_r: int, title: str) -> bytes:
    """Return a heat map of `{module path: rank}` as a PNG.

    The darkest colour is that of `init_r`. Of more than 100 layers or 24 kinds of modules some have
    a label. Beyond 1,000 cells only the colours show the ranks.

    Raises:
        ValueError: `ranks` is empty.
    """
    import matplotlib as mpl

    if not ranks:
        raise ValueError(
            "rank_heatmap: expected ranks of at least one module, got none; "
            "a configuration without rank_pattern comes from a run without an allocation"
        )
    # Names come from files: none is a formula, and none reaches LaTeX.
    with mpl.rc_context({"text.parse_math": False, "text.usetex": False}):
        figure = rank_figure(ranks, init_r=init_r, title=title)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()


def rank_figure(ranks: Mapping[str, int], *, init_r: int, title: str) -> Figure:
    """Return the picture of `rank_heatmap` as a figure of matplotlib."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    kinds, layers, cells = rank_table(ranks)
    width, height = min(len(layers), MOST_LAYERS), min(len(kinds), MOST_KINDS)
    figure = Figure(figsize=(3.2 + 0.55 * width, 1.6 + 0.45 * height), layout="constrained")
    axes = figure.subplots()
    grid = [[float(cells.get((kind, layer), "nan")) for layer in layers] for kind in kinds]
    # A rank of 0 has a colour too: on a page that inverts pictures, the palest are its background.
    colours = colormaps["YlGnBu"].resampled(256)(range(64, 256))
    image = axes.imshow(grid, cmap=ListedColormap(colours), vmin=0, vmax=init_r, aspect="auto")
    numbers = cells if len(cells) <= MOST_NUMBERS else {}
    for row, kind in enumerate(kinds):
        for column, layer in enumerate(layers):
            rank = numbers.get((kind, layer))
            if rank is not None:
                colour = "white" if rank > 0.6 * init_r else "black"
                axes.text(column, row, str(rank), ha="center", va="center", color=colour)
    for names, most, label in (
        (layers, MOST_LAYERS, axes.set_xticks),
        (kinds, MOST_KINDS, axes.set_yticks),
    ):
        shown = range(0, len(names), ceil(len(names) / most))
        label(shown, [shortened(names[at], _LONGEST_LABEL) for at in shown])
    # In dark viewers, which invert the picture, a rank of 0 would be the background.
    axes.set_xticks([column - 0.5 for column in range(1, len(layers))], minor=True)
    axes.set_yticks([row - 0.5 for row in range(1, len(kinds))], minor=True)
    axes.grid(which="minor", color="0.6", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("layer")
    axes.set_title(visible(title, _LONGEST_LABEL))
    figure.colorbar(image, ax=axes, label="rank", ticks=MaxNLocator(integer=True))
    return figure
