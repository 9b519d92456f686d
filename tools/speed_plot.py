"""Draw benchmarks/results/core.png."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from measure import Result


WITHOUT_BAR = ("by count", "addmm", "bandwidth", "compiled step, added")
"""Words of parts that are drawn elsewhere or compared with no time of PEFT for the same work."""


def draw(results: list[Result]) -> Figure:
    """Draw the speed of each case against PEFT, and how time grows with the number of matrices."""
    from matplotlib.figure import Figure

    by_count = [each for each in results if each.part.endswith("by count")]
    others = [
        each
        for each in results
        if "peft" in each.medians and not any(words in each.part for words in WITHOUT_BAR)
    ]
    figure = Figure(figsize=(15, 0.26 * len(others) + 1))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    labels = [f"{each.part}: {each.label}" for each in others]
    speeds = [each.medians["peft"] / each.medians["ours"] for each in others]
    bars = left.barh(labels, speeds, color="#3566a8")
    left.bar_label(bars, fmt="%.1f", padding=3)
    left.set_xscale("log")
    left.set_xlim(right=1.5 * max(speeds))
    left.set_ylim(-0.8, len(others) - 0.2)
    left.axvline(1, color="black", linewidth=0.8)
    left.invert_yaxis()
    left.set_xlabel("PEFT's time / ours")
    for part in sorted({each.part for each in by_count}):
        chosen = [each for each in by_count if each.part == part]
        counts = [int(each.label.split()[0]) for each in chosen]
        for name, style in (("ours", "-"), ("peft", "--")):
            times = [each.medians[name] / 1e3 for each in chosen]
            right.plot(counts, times, style, marker="o", label=f"{part.split()[0]}, {name}")
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xlabel("matrices [768 x 768]")
    right.set_ylabel("milliseconds")
    right.legend()
    figure.tight_layout()
    return figure
