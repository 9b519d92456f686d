"""Compare the ops on a GPU with PEFT, torch._foreach and compiled forms, in LLaMA-7B's shapes.

    python benchmarks/bench_cuda.py [--device cuda] [--sizes llama] [--output benchmarks/results]

Times are the host's, with a synchronisation at the end of every call. The bandwidth is that of the
kernels alone: torch.profiler measures them and a copy on the device.
`--device cpu` runs the same comparisons without a GPU, to see that they run.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import platform
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bench_importance
import bench_orthogonality
import bench_selection
import bench_svd_linear
import torch
from measure import Case, Result, run
from shapes import LLAMA, RANK, MatrixSizes, describe

from adalora_core.ops import _backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SIZES: dict[str, MatrixSizes] = {"llama": LLAMA, "tiny": [(64, 64), (64, 96)]}
UPDATE_GOAL, COPY_GOAL, SCORE_GOAL, PENALTY_GOAL = 50, 0.8, 100, 30
BFLOAT16_GOAL, MIXED_GOAL = 1.5, 2.5
TOKENS = 2048
CALL = "the call that is counted"
# Events in which the host waits; on a CPU, those that would wait for a GPU.
WAITS = {
    "cuda": {
        "cudaStreamSynchronize",
        "cudaDeviceSynchronize",
        "cudaEventSynchronize",
        "cudaMemcpy",
    },
    "cpu": {"aten::_local_scalar_dense"},
}


@dataclass(frozen=True)
class Profile:
    """One call in torch.profiler: launches (kernels, copies), waits, and the time on the device."""

    name: str
    launches: int
    waits: int
    device_us: float


def profile(name: str, function: Callable[[], object], device: str) -> Profile:
    """Count the launches and waits of one call after a first one that warms up."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    function()
    wait(device)
    with (
        torch.profiler.profile(activities=activities) as seen,
        torch.profiler.record_function(CALL),
    ):
        function()
    return counted(name, list(seen.events() or []), device)


def counted(name: str, events: Sequence[Any], device: str) -> Profile:
    """Count the events of one call; the profiler waits for the device too, before it ends."""
    host = [e for e in events if e.device_type == torch.autograd.DeviceType.CPU]
    (call,) = (e.time_range for e in host if e.name == CALL)
    waits = sum(
        e.name in WAITS[device] and call.start <= e.time_range.start <= call.end for e in host
    )
    kernels = [
        e for e in events if e.device_type == torch.autograd.DeviceType.CUDA and e.name != CALL
    ]
    return Profile(name, len(kernels), waits, sum(e.device_time_total for e in kernels))


def wait(device: str) -> None:
    """Wait until the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


def waiting(contenders: dict[str, Any], device: str) -> dict[str, Callable[[], object]]:
    """Return the contenders, each of which waits for the device at the end."""

    def whole(function: Callable[[], object]) -> Callable[[], object]:
        def call() -> None:
            function()
            wait(device)

        return call

    return {name: whole(function) for name, function in contenders.items()}


def made(device: str, make: Callable[..., dict[str, Any]], *arguments: Any, **named: Any) -> Any:
    """Return the contenders with their tensors on `device`.

    The device is the default only while the tensors are made: a default device slows every call of
    torch, and would slow contenders with many calls the most.
    """
    with torch.device(device):
        return make(*arguments, **named)


def comparisons(sizes: MatrixSizes, name: str, device: str, rounds: int) -> Iterator[Case]:
    """Yield the comparison of every op."""
    label = describe(sizes, name)
    compiled = device == "cuda"
    update = made(device, bench_importance.contenders, sizes, compiled=compiled)
    yield Case("importance", label, waiting(update, device), goal=UPDATE_GOAL, rounds=rounds)
    if compiled:
        yield Case(
            "importance, compiled foreach", label, waiting(update, device), against="compiled",
            rounds=rounds,
        )  # fmt: skip
    minus = {"ours": ("our step", "our update"), "peft": ("peft step", "peft update")}
    steps = waiting(made(device, bench_selection.contenders, sizes), device)
    yield Case("selection", label, steps, goal=SCORE_GOAL, minus=minus, rounds=rounds)
    penalty = waiting(made(device, bench_orthogonality.contenders, sizes), device)
    yield Case("orthogonality", label, penalty, goal=PENALTY_GOAL, rounds=rounds)
    tokens = TOKENS if device == "cuda" else 16
    for (n_in, n_out), (factors, goal) in itertools.product(
        sorted(set(sizes)),
        ((torch.bfloat16, BFLOAT16_GOAL), (torch.float32, MIXED_GOAL)),
    ):
        functions = made(
            device, bench_svd_linear.contenders, tokens, n_in, n_out, torch.bfloat16, factors
        )
        if not compiled:
            del functions["compiled"]
        kind = str(factors).removeprefix("torch.")
        yield Case(
            f"svd_linear, {kind} adapter on bfloat16", f"[{tokens} x {n_in} -> {n_out}]",
            waiting(functions, device), goal=goal, rounds=rounds,
        )  # fmt: skip


def profiles(sizes: MatrixSizes, device: str) -> list[Profile]:
    """Count launches and waits of one step of each op, ours and PEFT's."""
    update = made(device, bench_importance.contenders, sizes)
    step = made(device, bench_selection.contenders, sizes)
    penalty = made(device, bench_orthogonality.contenders, sizes)
    calls = {
        "update, ours": update["ours"],
        "update, peft": update["peft"],
        "update, foreach": update["foreach"],
        "copy of the same bytes": update["copy"],
        "update, scores and masking, ours": step["our step"],
        "update, scores and masking, peft": step["peft step"],
        "orthogonality, ours": penalty["ours"],
        "orthogonality, peft": penalty["peft"],
    }
    return [profile(name, function, device) for name, function in calls.items()]


def machine(device: str) -> dict[str, str]:
    """Return the machine, the versions and the command."""
    found = {"torch": torch.__version__, "python": platform.python_version()}
    if device == "cuda":
        from adalora_core import _cuda

        found["card"] = torch.cuda.get_device_name()
        with contextlib.suppress(OSError):
            found["driver"] = (
                Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
            )
        found["CUDA of the driver"] = str(_cuda.driver_version())
        found["CUDA of the kernels"] = str(_cuda.runtime_version())
    else:
        found["card"] = "none: a run on the CPU, whose figures have no meaning"
    return found | {"command": shlex.join(["python", *sys.argv])}


def table(results: list[Result], seen: list[Profile], facts: dict[str, str]) -> str:
    """Return the page."""
    lines = ["# The ops on a GPU", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    lines += [
        "| part | shapes | ours, µs | others, µs | ratio | goal |",
        "|---|---|---:|---|---:|---:|",
    ]
    for each in results:
        others = ", ".join(
            f"{name} {value:.0f}" for name, value in each.medians.items() if name != "ours"
        )
        goal = "" if each.goal is None else f"{each.goal:g}"
        lines.append(
            f"| {each.part} | {each.label} | {each.medians['ours']:.0f} | {others} | "
            f"{each.ratio:.2f} | {goal} |"
        )
    lines += [
        "",
        "| one call | kernels and copies | waits of the host | µs of both |",
        "|---|---:|---:|---:|",
    ]
    lines += [f"| {p.name} | {p.launches} | {p.waits} | {p.device_us:.0f} |" for p in seen]
    by_name = {each.name: each.device_us for each in seen}
    if by_name["update, ours"]:
        share = by_name["copy of the same bytes"] / by_name["update, ours"]
        lines += ["", f"The update runs at {share:.2f} of the copy's bandwidth (goal {COPY_GOAL})."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the page, and write it with its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--sizes", choices=SIZES, default="llama")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path, help="folder for cuda.md and cuda.json")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --device cpu --sizes tiny shows that the comparisons run")
    if _backend.core_of(torch.empty(0, device=arguments.device)) is None:
        parser.error("no compiled kernels serve this GPU; `adalora env` reports why")
    facts = machine(arguments.device)
    sizes = SIZES[arguments.sizes]
    cases = comparisons(
        sizes, f"{arguments.sizes}, rank {RANK}", arguments.device, arguments.rounds
    )
    results = [run(case) for case in cases]
    seen = profiles(sizes, arguments.device)
    page = table(results, seen, facts)
    print(page)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        figures = {
            "machine": facts,
            "results": [asdict(each) for each in results],
            "profiles": [asdict(each) for each in seen],
        }
        (arguments.output / "cuda.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        (arguments.output / "cuda.md").write_text(page, "utf-8")


if __name__ == "__main__":
    main()
