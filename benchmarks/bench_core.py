"""Measure the core and write results/core.json, core.md, core.png and the table of README.md.

    python benchmarks/bench_core.py [part ...]

Without a part everything is measured; with parts (importance, selection, orthogonality, svd_linear,
svd_linear_avx2, adapted_linear, training_step) their rows are replaced and the others kept.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

import peft
import torch
from bench_svd_linear_avx2 import ENVIRONMENT
from measure import Result, run
from pages import RESULTS, pages, read, row, write
from plot import draw

from adalora_core import _cpu

PARTS = (
    "importance",
    "selection",
    "orthogonality",
    "svd_linear",
    "svd_linear_avx2",
    "adapted_linear",
    "training_step",
)


def measure(part: str) -> list[Result]:
    """Run every case of `part` and print each result as it comes."""
    if part == "svd_linear_avx2" and not ENVIRONMENT.items() <= os.environ.items():
        return measure_in_process(part, ENVIRONMENT)
    results = []
    for case in importlib.import_module(f"bench_{part}").cases():
        results.append(run(case))
        print(row(results[-1]), flush=True)
    return results


def measure_in_process(part: str, environment: dict[str, str]) -> list[Result]:
    """Run `part` in a process whose environment has `environment` too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [sys.executable, __file__, "--into", str(path), part]
        subprocess.run(command, env={**os.environ, **environment}, check=True)  # noqa: S603 - this file
        return [Result(**each) for each in json.loads(path.read_text(encoding="utf-8"))]


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


def main(parts: list[str]) -> None:
    """Measure `parts` and rewrite the results."""
    warnings.simplefilter("ignore")  # PEFT's advice on configurations
    if parts[:1] == ["--into"]:  # see measure_in_process
        found = [asdict(result) for part in parts[2:] for result in measure(part)]
        Path(parts[1]).write_text(json.dumps(found), encoding="utf-8")
        return
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        sys.exit(f"bench_core: unknown parts {unknown}; there are {list(PARTS)}")
    path = RESULTS / "core.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}
    setting = machine()
    for part in parts or PARTS:
        # Written part by part: what was measured before a fault or an interruption is kept.
        kept[part] = [asdict(result) for result in measure(part)]
        ordered = {each: kept[each] for each in PARTS if each in kept}
        write(path, json.dumps({"machine": setting, "results": ordered}, indent=1) + "\n")
    results, _ = read()
    for page, text in pages(results, setting).items():
        write(page, text)
    draw(results, RESULTS / "core.png")


if __name__ == "__main__":
    main(sys.argv[1:])
