"""What people read of the benchmarks of the core, made of results/core.json.

    python benchmarks/pages.py          # write results/core.md and the tables in other pages
    python benchmarks/pages.py --check  # exit with 1 if one of them is not what core.json says

`bench_core.py` writes them too, after measuring.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Result

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
ADR = ROOT / "docs" / "adr" / "0004-which-goals-of-speed-the-core-reaches.md"
BEGIN = "<!-- written by python benchmarks/bench_core.py -->"
END = "<!-- end of what it writes -->"


def read() -> tuple[list[Result], dict[str, str]]:
    """Return what core.json holds: the results, and what they depend on."""
    held = json.loads((RESULTS / "core.json").read_text(encoding="utf-8"))
    return [Result(**each) for part in held["results"].values() for each in part], held["machine"]


def row(result: Result) -> str:
    """Return one line of core.md."""
    times = ", ".join(f"{name} {format_time(value)}" for name, value in result.medians.items())
    what = f"ours / {result.against}" if result.at_most else f"{result.against} / ours"
    bound = "<=" if result.at_most else ">="
    goal = "" if result.goal is None else f"{bound} {result.goal:g}"
    verdict = {None: "", True: "reached", False: "missed"}[result.reached]
    low, high = result.spread
    return (
        f"| {result.part} | {result.label} | {what} | {result.ratio:.2f} ({low:.2f} to {high:.2f}) "
        f"| {goal} | {verdict} | {times} |"
    )


def format_time(microseconds: float) -> str:
    """Return a time with a unit that suits it."""
    if microseconds < 1e3:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1e3:.2f} ms"


def core_page(results: Iterable[Result], setting: dict[str, str]) -> str:
    """Return core.md."""
    lines = [
        "# Benchmarks of the compiled core",
        "",
        "Written by `python benchmarks/bench_core.py`.",
        "All contenders of a row run in one process, in another order in each round; times are",
        "medians, the ratio is that of the medians, with its quartiles over rounds in brackets.",
        "",
        "; ".join(f"{key}: {value}" for key, value in setting.items()) + ".",
        "",
        "| part | shapes | ratio of | ratio | goal | | medians |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(result) for result in results), ""])


@dataclass(frozen=True)
class Row:
    """One line of the table of README.md: all results of a part that have a goal.

    Attributes:
        part: of the results.
        ending: of their labels.
        what: how the part is called.
        beside: what it is compared with.
    """

    part: str
    ending: str
    what: str
    beside: str


ROWS = (
    Row("training step", "", "training step of MiniLM", "PEFT's plain LoRA"),
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


def goals_block(results: list[Result]) -> str:
    """Return the table of the decision record about the goals."""
    lines = ["| part | on | ratio of | goal | measured |  |", "|---|---|---|---:|---:|---|"]
    for each in results:
        if each.goal is not None:
            ratio_of = f"ours / {each.against}" if each.at_most else f"{each.against} / ours"
            low, high = each.spread
            lines.append(
                f"| {each.part} | {each.label} | {ratio_of} | {'<=' if each.at_most else '>='} "
                f"{each.goal:g} | {each.ratio:.2f} ({low:.2f} to {high:.2f}) "
                f"| {'reached' if each.reached else 'missed'} |"
            )
    return "\n".join(lines)


def _figures(results: list[Result]) -> tuple[str, str, str]:
    """Return on what was measured, the speeds and the goals."""
    # How many times as fast ours is, for bounds of our time too.
    speeds = [1 / each.ratio if each.at_most else each.ratio for each in results]
    goals = [1 / (each.goal or 1) if each.at_most else each.goal for each in results]
    missed = [not each.reached for each in results]
    if len(set(goals)) == 1 and len(results) > 2:
        goal = f"{goals[0]:g}"
        if any(missed):
            goal += f", missed by {sum(missed)} of {len(missed)}"
    else:
        goal = "; ".join(
            f"{value:g}{' (missed)' if is_missed else ''}"
            for value, is_missed in zip(goals, missed, strict=True)
        )
    if results[0].part.startswith("svd_linear"):
        mean = statistics.geometric_mean(speeds)
        speed = f"{min(speeds):.1f} to {max(speeds):.1f}, geometric mean {mean:.1f}"
        return f"{len(results)} shapes", speed, goal
    digits = 2 if max(speeds) < 2 else 1
    on = [re.sub("^[^:]*: |^MiniLM, ", "", each.label) for each in results]
    return "; ".join(on), "; ".join(f"{speed:.{digits}f}" for speed in speeds), goal


def with_block(path: Path, block: str) -> str:
    """Return the text of `path` with `block` between the marks."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"pages: {path.name} must have the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def pages(results: list[Result], setting: dict[str, str]) -> dict[Path, str]:
    """Return what every page should say."""
    readme = ROOT / "README.md"
    return {
        RESULTS / "core.md": core_page(results, setting),
        readme: with_block(readme, readme_block(results, setting)),
        ADR: with_block(ADR, goals_block(results)),
    }


def write(path: Path, text: str) -> None:
    """Write `text` under a temporary name and rename it."""
    temporary = path.with_name(f"{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def main(arguments: list[str]) -> None:
    """Write the pages, or compare them."""
    wanted = pages(*read())
    if arguments == ["--check"]:
        stale = [p.name for p, text in wanted.items() if p.read_text(encoding="utf-8") != text]
        if stale:
            sys.exit(f"pages: {', '.join(stale)} differ from core.json; run benchmarks/pages.py")
        return
    for path, text in wanted.items():
        write(path, text)


if __name__ == "__main__":
    main(sys.argv[1:])
