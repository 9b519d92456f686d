"""Make the pages that show the speed of the core from benchmarks/results/core.json."""

from __future__ import annotations

import json
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from written_blocks import with_block, with_words

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from measure import Result  # noqa: E402 - found on the path set above

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RESULTS = ROOT / "benchmarks" / "results"
FIGURES = RESULTS / "core.json"
GOALS = RESULTS / "goals.md"
README = ROOT / "README.md"
STATUS = ROOT / "docs" / "status.md"
PART = "speed"


def pages() -> dict[Path, str]:
    """Return the text of every page that shows the figures."""
    results, setting = read()
    return {
        RESULTS / "core.md": core_page(results, setting),
        README: with_words(
            with_block(README, PART, readme_block(results, setting)), PART, price(results)
        ),
        STATUS: with_block(STATUS, PART, table(results, setting)),
        GOALS: with_block(GOALS, PART, goals_block(results)),
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
        "All contenders of a row run in one process, in another order in each round. Times are",
        "medians. Beside a ratio are the quartiles of the ratios of single rounds.",
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
    """One line of the table in docs/status.md: all results of a part.

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
    Row(
        "training step, portable", "", "training step without the compiled core",
        "PEFT's plain LoRA",
    ),
    Row(
        "added cost", "", "what adapters add to a step of the frozen model",
        "what PEFT's plain LoRA adds",
    ),
    Row(
        "added cost, long", "", "what adapters add to a layer of LLaMA-7B or Qwen-0.5B",
        "what PEFT's plain LoRA adds",
    ),
    Row("compiled step", "", "compiled training step of MiniLM", "PEFT's plain LoRA, compiled"),
    Row("compiled step, eager", "", "compiled training step of MiniLM", "the same not compiled"),
    Row(
        "svd_linear, layer", "", "adapted linear layer with its gradient", "PEFT's plain LoRA layer"
    ),
    Row("svd_linear", "] float32", "adapter op with its gradient", "PEFT's layer"),
    Row("svd_linear, addmm", "] float32", "adapter op with its gradient", "torch's products"),
    Row(
        "svd_linear, addmm", "] bfloat16, float32 adapter",
        "adapter op, float32 on a bfloat16 layer", "torch's products",
    ),
    Row("svd_linear, addmm", "] bfloat16", "adapter op, all in bfloat16", "torch's products"),
    Row("importance", "", "update of the averages", "PEFT's allocator"),
    Row(
        "importance, portable", "", "update of the averages without the compiled core",
        "PEFT's allocator",
    ),
    Row("importance, copy", "", "update of the averages", "a copy of as many bytes"),
    Row("selection", "", "scoring and masking", "PEFT's allocator"),
    Row(
        "selection, torch", "", "scoring and masking", "a product of both averages and `topk`"
    ),
    Row("orthogonality", "", "orthogonality penalty with its gradient", "PEFT's penalty"),
    Row(
        "orthogonality, kernels", "", "orthogonality penalty with its gradient",
        "its kernels and autograd alone",
    ),
)  # fmt: skip


def readme_block(results: list[Result], setting: dict[str, str]) -> str:
    """Return the table of README.md: how many times as fast as PEFT's a training step is."""
    steps = [each for each in results if each.part == "training step"]
    return "\n".join(
        (
            "| a step of MiniLM with our AdaLoRA | than PEFT's AdaLoRA | than PEFT's LoRA |",
            "|---|---:|---:|",
            *(
                f"| {_shape(each)} "
                f"| {each.medians['peft'] / each.medians['ours']:.2f} times as fast "
                f"| {1 / each.ratio:.2f} times as fast |"
                for each in steps
            ),
            "",
            (
                f"{_setting(setting)}.\n"
                "AdaLoRA is without its orthogonality penalty in both. "
                "[All rows](docs/status.md#how-fast-it-is), slower ones too."
            ),
        )
    )


def price(results: Iterable[Result]) -> str:
    """Return how many times as fast as plain LoRA a training step is, from worst to best."""
    ratios = sorted(1 / each.ratio for each in results if each.part == "training step")
    return f"{ratios[0]:.2f} to {ratios[-1]:.2f}"


def table(results: list[Result], setting: dict[str, str]) -> str:
    """Return the table of docs/status.md."""
    head = ("| what | beside | on | times as fast | goal |", "|---|---|---|---|---|")
    parts = [row.part for row in ROWS]
    return "\n".join((f"{_setting(setting)}:", "", *head, *_lines(results, parts)))


def _setting(setting: dict[str, str]) -> str:
    return (
        f"On {setting['cpu']} with {setting['threads']} threads, rank 12, torch "
        f"{setting['torch']}, PEFT {setting['peft']}, {setting['measured on']}"
    )


def _of(row: Row, results: Iterable[Result]) -> list[Result]:
    return [each for each in results if each.part == row.part and each.label.endswith(row.ending)]


def _lines(results: list[Result], parts: Sequence[str]) -> Iterator[str]:
    for row in ROWS:
        if row.part in parts and (found := _of(row, results)):
            yield f"| {row.what} | {row.beside} | {' | '.join(_figures(found))} |"


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
    goals = [each.goal and (1 / each.goal if each.at_most else each.goal) for each in results]
    missed = [each.reached is False for each in results]
    if not any(goals):
        goal = ""
    elif len(set(goals)) == 1 and len(results) > 2:
        goal = f"{goals[0]:.3g}"
        if any(missed):
            goal += f", missed by {sum(missed)} of {len(missed)}"
    else:
        goal = "; ".join(
            f"{value:.3g}{' (missed)' if is_missed else ''}"
            for value, is_missed in zip(goals, missed, strict=True)
        )
    if len(results) > 4 or results[0].part.startswith("svd_linear"):
        # Where next to nothing is added, the largest speed is noise.
        speed = f"{min(speeds):.1f} and more, median {statistics.median(speeds):.1f}"
        return f"{len(results)} shapes", speed, goal
    digits = 2 if max(speeds) < 2 else 1
    return (
        "; ".join(map(_shape, results)),
        "; ".join(f"{speed:.{digits}f}" for speed in speeds),
        goal,
    )


def _shape(result: Result) -> str:
    return re.sub("^[^:]*: |^MiniLM, ", "", result.label)
