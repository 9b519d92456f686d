"""Measure the core and write results/core.json.

    python benchmarks/bench_core.py [part ...]
    python tools/regenerate.py speed              # then: the pages that show the figures

Without a part everything is measured; with parts (importance, selection, orthogonality, svd_linear,
svd_linear_avx2, adapted_linear, training_step, compiled_step, long_sequences) their rows are
replaced and the others kept.
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
from datetime import UTC, datetime
from pathlib import Path

import peft
import torch
from bench_svd_linear_avx2 import ENVIRONMENT
from measure import Result, run, write

from adalora_core import _cpu

FILE = Path(__file__).parent / "results" / "core.json"
PARTS = (
    "importance",
    "selection",
    "orthogonality",
    "svd_linear",
    "svd_linear_avx2",
    "adapted_linear",
    "training_step",
    "compiled_step",
    "long_sequences",
)


def measure(part: str) -> list[Result]:
    """Run every case of `part` and print each result as it comes."""
    results = []
    for case in importlib.import_module(f"bench_{part}").cases():
        results.append(run(case))
        print(f"| {' | '.join(results[-1].cells().values())} |", flush=True)
        del case  # the tensors of a large model, before those of the next one are made
    return results


def measure_in_process(part: str) -> list[Result]:
    """Run `part` in a process of its own, whose memory no other part has used."""
    environment = ENVIRONMENT if part == "svd_linear_avx2" else {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [sys.executable, __file__, "--into", str(path), part]
        subprocess.run(command, env={**os.environ, **environment}, check=True)  # noqa: S603 - this file
        return [Result(**each) for each in json.loads(path.read_text(encoding="utf-8"))]


def machine(parts: list[str]) -> dict[str, str]:
    """Return what the figures depend on: processor, threads, versions, and the last command."""
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
        "ratios": "medians over the rounds",
        "measured on": f"{datetime.now(UTC):%Y-%m-%d}",
        "by": " ".join(("python benchmarks/bench_core.py", *parts)),
    }


def main(parts: list[str]) -> None:
    """Measure `parts` and replace their results."""
    warnings.simplefilter("ignore")  # PEFT's advice on configurations
    if parts[:1] == ["--into"]:  # see measure_in_process
        found = [asdict(result) for part in parts[2:] for result in measure(part)]
        Path(parts[1]).write_text(json.dumps(found), encoding="utf-8")
        return
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        sys.exit(f"bench_core: unknown parts {unknown}; there are {list(PARTS)}")
    kept = json.loads(FILE.read_text(encoding="utf-8"))["results"] if FILE.exists() else {}
    setting = machine(parts)
    for part in parts or PARTS:
        # Written part by part: a fault or an interruption loses no earlier figures.
        kept[part] = [asdict(result) for result in measure_in_process(part)]
        ordered = {each: kept[each] for each in PARTS if each in kept}
        write(FILE, json.dumps({"machine": setting, "results": ordered}, indent=1) + "\n")
    print(f"wrote {FILE}; for the pages that show it, run: python tools/regenerate.py speed")


if __name__ == "__main__":
    main(sys.argv[1:])
