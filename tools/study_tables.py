"""Write intervals and edges of what was tuned as the tables of the studies show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from written_blocks import with_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intervals import Interval


PAGE = Path(__file__).parents[1] / "benchmarks" / "studies" / "tables.md"


def on_tables(part: str, block: str) -> dict[Path, str]:
    """Return benchmarks/studies/tables.md with the block of a part."""
    return {PAGE: with_block(PAGE, part, block)}


def interval(found: Interval | None, digits: int = 4) -> str:
    """Return the mean and its interval, nothing where there is none."""
    if found is None:
        return ""
    mean, low, high = (f"{each:+.{digits}f}" for each in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def edge(chosen: tuple[float, float], tried: Sequence[tuple[float, float]]) -> str:
    """Return a mark where a tuned value may be better beyond what was tried.

    A learning rate is compared with the rates that were tried at its scale, a scale with all scales
    if there were several.

    Example:
        >>> edge((0.02, 8.0), ((0.01, 2.0), (0.02, 2.0), (0.04, 2.0), (0.02, 8.0)))
        ' (edge: rate, scale)'
        >>> edge((0.02, 2.0), ((0.01, 2.0), (0.02, 2.0), (0.04, 2.0)))
        ''
    """
    rate, scale = chosen
    rates = [each for each, at in tried if at == scale]
    scales = {each for _, each in tried}
    at_edge = ["rate"] if rate in {min(rates), max(rates)} else []
    at_edge += ["scale"] if len(scales) > 1 and scale in {min(scales), max(scales)} else []
    return f" (edge: {', '.join(at_edge)})" if at_edge else ""
