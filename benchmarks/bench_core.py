"""Measure the core and write results/core.json, core.md and core.png.

    python benchmarks/bench_core.py [part ...]

Without a part everything is measured; with parts (importance, selection, orthogonality, svd_linear,
training_step) their rows are replaced and the others kept.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import peft
import torch
from measure import Result, run
from plot import draw

from adalora_core import _cpu

PARTS = ("importance", "selection", "orthogonality", "svd_linear", "training_step")
RESULTS = Path(__file__).parent / "results"


def measure(parts: list[str]) -> dict[str, list[Result]]:
    """Run every case of `parts` and print each result as it comes."""
    found: dict[str, list[Result]] = {}
    for part in parts:
        found[part] = []
        for case in importlib.import_module(f"bench_{part}").cases():
            result = run(case)
            found[part].append(result)
            print(row(result), flush=True)
    return found


def row(result: Result) -> str:
    """Return one line of the Markdown table."""
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


def machine() -> dict[str, str]:
    """Return what the numbers depend on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "instruction set of the core": _cpu.isa_name(),
        "instruction set of torch": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "peft": peft.__version__,
        "python": platform.python_version(),
    }


def table(results: list[Result], setting: dict[str, str]) -> str:
    """Return the Markdown page."""
    lines = [
        "# Benchmarks of the compiled core",
        "",
        "Written by `python benchmarks/bench_core.py`.",
        "All contenders of a row run in one process, in turn; times are medians, the ratio is that",
        "of the medians, with the quartiles of the ratio over rounds in brackets.",
        "",
        "; ".join(f"{key}: {value}" for key, value in setting.items()) + ".",
        "",
        "| part | shapes | ratio of | ratio | goal | | medians |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(result) for result in results), ""])


def write(text: str, name: str) -> None:
    """Write `text` under a temporary name and rename it."""
    temporary = RESULTS / f"{name}.partial"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(RESULTS / name)


def main(parts: list[str]) -> None:
    """Measure `parts` and rewrite the results."""
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        sys.exit(f"bench_core: unknown parts {unknown}; there are {list(PARTS)}")
    warnings.simplefilter("ignore")  # PEFT's advice on configurations
    path = RESULTS / "core.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}
    measured = measure(parts or list(PARTS))
    merged = {
        part: [asdict(result) for result in measured[part]] if part in measured else kept[part]
        for part in PARTS
        if part in measured or part in kept
    }
    setting = machine()
    write(json.dumps({"machine": setting, "results": merged}, indent=1) + "\n", "core.json")
    results = [Result(**each) for part in merged.values() for each in part]
    write(table(results, setting), "core.md")
    draw(results, RESULTS / "core.png")


if __name__ == "__main__":
    main(sys.argv[1:])
