"""The look of the site: its colours can be read, and its pictures are what their script draws."""

from __future__ import annotations

import runpy
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
DRAWN = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "identity.py")))
LEAST = 4.5
"""The contrast that WCAG 2.2 asks of text."""
FINDING = ("error", "warning", "info", "added", "removed")
PAIRS = {
    *product(("text", "quiet", "accent", *FINDING), ("back", "panel")),
    *product(("text", "quiet", "accent", "info"), ("tint", "wrong")),
    *(("on-accent", "accent"), ("removed", "wrong"), ("added", "right")),
}
"""What lies on what; nothing is lost without its colour, so edges need no contrast."""


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2.2 defines it, from 1 to 21."""
    parts = [[int(each[n : n + 2], 16) / 255 for n in (1, 3, 5)] for each in (one, other)]
    linear = [
        [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in each]
        for each in parts
    ]
    darker, lighter = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("scheme", ["default", "slate"])
def test_colours_that_lie_on_each_other_can_be_read(scheme):
    colours = DRAWN.palette(scheme)
    assert colours.keys() - {"edge"} == {name for pair in PAIRS for name in pair}
    found = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in PAIRS}
    assert {pair: ratio for pair, ratio in found.items() if ratio < LEAST} == {}


def test_card_has_the_size_that_those_who_show_links_ask_for():
    header = DRAWN.CARD.read_bytes()[:24]
    assert header[:4] == b"\x89PNG"
    assert [int.from_bytes(header[n : n + 4]) for n in (16, 20)] == [1200, 630]
