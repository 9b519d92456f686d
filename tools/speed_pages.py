"""Make the pages that show the speed of the core from benchmarks/results/core.json."""

from __future__ import annotations

import json
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from written_blocks import with_block

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from measure import Result  # noqa: E402 - found on the path set above

if TYPE_CHECKING:
    from collections.abc import Iterable

RESULTS = ROOT / "benchmarks" / "results"
FIGURES = RESULTS / "core.json"
README = ROOT / "README.md"
ADR = ROOT / "docs" / "adr" / "0004-which-goals-of-speed-the-core-reaches.md"
PART = "speed"


def pages() -> dict[Path, str]:
    """Return the text of every page that shows the figures."""
    results, setting = read()
    return {
        RESULTS / "core.md": core_page(results, setting),
        README: with_block(README, PART, readme_block(results, setting)),
        ADR: with_block(ADR, PART, goals_block(results)),
    }


def read() -> tuple[list[Result], dict[str, str]]:
    """Return the results in core.json, and the machine and versions they depend on."""
    held = json.loads(FIGURES.read_text(encoding="utf-8"))
    return [Result(**each) for part in held["results"].values() for each in part], held["machine"]


def core_page(results: Iterable[Result], setting: dict[str, str]) -> str:
    """Return core.md."""
    lines = [
        "# Benchmarks of the compiled core",
        "",
        "Measured by `python benchmarks/bench_core.py`,",
        "written by `python tools/regenerate.py speed`.",
        "All contenders of a row run in one process, in another order in each round; times are",
        "medians, the ratio is that of the medians, with its quartiles over rounds in brackets.",
        "",
        "; ".join(f"{key}: {value}" for key, value in setting.items()) + ".",
        "",
        "| part | shapes | ratio of | ratio | goal | | medians |",
        "|---|---|---|---|---|---|---|",
        *(_line(result.cells().values()) for result in results),
        "",
    ]
    return "\n".join(lines)


@dataclass(frozen=True)
class Row:
    """One line of the table in README.md: all results of a part with a goal.

    Attributes:
        part: the part of the results.
        ending: how the labels of the results end.
        what: the name of the part in the table.
        beside: the contender of the comparison.
    """

    part: str
    ending: str
    what: str
    beside: str


ROWS = (
    Row("training step", "", "training step of MiniLM", "PEFT's plain LoRA"),
    Row("training step, portable", "", "the same without the compiled core", "PEFT's plain LoRA"),
    Row(
        "added cost", "", "what adapters add to a step of the frozen model",
        "what PEFT's plain LoRA adds",
    ),
    Row(
        "svd_linear, layer", "", "adapted linear layer with its gradient", "PEFT's plain LoRA layer"
    ),
    Row("svd_linear", "] float32", "adapter op with its gradient", "PEFT's layer"),
    Row(
        "svd_linear", "] bfloat16, float32 adapter",
        "the same, float32 adapter on a bfloat16 layer", "PEFT's layer",
    ),
    Row("svd_linear", "] bfloat16", "the same, all in bfloat16", "PEFT's layer"),
    Row(
        "svd_linear, AVX2", "] bfloat16, float32 adapter",
        "float32 adapter on a bfloat16 layer, held to AVX2", "PEFT's layer",
    ),
    Row(
        "svd_linear, AVX2", "] bfloat16",
        "all in bfloat16, held to AVX2 (no bfloat16 instructions)", "PEFT's layer",
    ),
    Row("importance", "", "update of the averages", "PEFT's allocator"),
    Row("selection", "", "scoring and masking", "PEFT's allocator"),
    Row("orthogonality", "", "orthogonality penalty with its gradient", "PEFT's penalty"),
)  # fmt: skip


def readme_block(results: list[Result], setting: dict[str, str]) -> str:
    """Return the table of README.md."""
    lines = [
        (
            f"On {setting['cpu']} with {setting['threads']} threads, rank 12, torch "
            f"{setting['torch']}, PEFT {setting['peft']}:"
        ),
        "",
        "| what | beside | on | times as fast | goal |",
        "|---|---|---|---|---|",
    ]
    for each in ROWS:
        found = [r for r in results if r.part == each.part and r.label.endswith(each.ending)]
        found = [r for r in found if r.goal is not None]
        if found:
            lines.append(f"| {each.what} | {each.beside} | {' | '.join(_figures(found))} |")
    return "\n".join(lines)


def goals_block(results: Iterable[Result]) -> str:
    """Return the table of the decision record about the goals."""
    lines = ["| part | on | ratio of | goal | measured |  |", "|---|---|---|---:|---:|---|"]
    columns = ("part", "shapes", "ratio of", "goal", "ratio", "verdict")
    for each in results:
        if each.goal is not None:
            cells = each.cells()
            lines.append(_line(cells[column] for column in columns))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figures(results: list[Result]) -> tuple[str, str, str]:
    """Return the shapes, the speeds and the goals of one line."""
    # A bound of our time is turned into a speed too.
    speeds = [1 / each.ratio if each.at_most else each.ratio for each in results]
    goals = [1 / (each.goal or 1) if each.at_most else each.goal for each in results]
    missed = [not each.reached for each in results]
    if len(set(goals)) == 1 and len(results) > 2:
        goal = f"{goals[0]:.3g}"
        if any(missed):
            goal += f", missed by {sum(missed)} of {len(missed)}"
    else:
        goal = "; ".join(
            f"{value:.3g}{' (missed)' if is_missed else ''}"
            for value, is_missed in zip(goals, missed, strict=True)
        )
    if results[0].part.startswith("svd_linear"):
        mean = statistics.geometric_mean(speeds)
        speed = f"{min(speeds):.1f} to {max(speeds):.1f}, geometric mean {mean:.1f}"
        return f"{len(results)} shapes", speed, goal
    digits = 2 if max(speeds) < 2 else 1
    on = [re.sub("^[^:]*: |^MiniLM, ", "", each.label) for each in results]
    return "; ".join(on), "; ".join(f"{speed:.{digits}f}" for speed in speeds), goal
