"""The benchmark for a GPU counts waits and launches of a call."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from programs import output_of_python

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_cuda.py"


@pytest.fixture
def bench_cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark as a module, with its neighbours beside it."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("bench_cuda")


def event(name: str, start: float, end: float, device: str = "CPU") -> SimpleNamespace:
    """Return a profiler event from `start` to `end`."""
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=start, end=end),
        device_type=getattr(torch.autograd.DeviceType, device),
        device_time_total=end - start,
    )


def test_waits_are_those_of_the_call_and_launches_those_of_the_device(bench_cuda: Any) -> None:
    call = bench_cuda.CALL
    events = [
        event("cudaStreamSynchronize", 1, 2),
        event(call, 10, 50),
        event("aten::item", 11, 14),
        event("cudaLaunchKernel", 12, 13),
        event("cudaStreamSynchronize", 13, 14),
        event("cudaDeviceSynchronize", 60, 70),  # the profiler's own, before it ends
        event(call, 12, 70, "CUDA"),  # the mark of the call in the device's time
        event("update_kernel", 13, 20, "CUDA"),
        event("Memcpy DtoH", 20, 22, "CUDA"),
    ]
    expected = bench_cuda.Profile("update", launches=2, waits=1, device_us=9)
    assert bench_cuda.counted("update", events, "cuda") == expected


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no GPU; would have counted launches and found no wait in our allocation step",
)
def test_our_allocation_step_waits_for_nothing(tmp_path: Path) -> None:
    output_of_python(SCRIPT, "--sizes", "tiny", "--rounds", 3, "--output", tmp_path)
    figures = json.loads((tmp_path / "cuda.json").read_text())
    seen = {each["name"]: each for each in figures["profiles"]}
    ours = seen["update, scores and masking, ours"]
    assert ours["waits"] == 0
    assert ours["launches"] < seen["update, scores and masking, peft"]["launches"] / 5
