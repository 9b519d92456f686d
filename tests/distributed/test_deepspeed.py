"""ZeRO-1 and ZeRO-2 of DeepSpeed in two processes are one process without it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import zero_runs
from programs import run

from adalora_core import RunWarning

pytestmark = pytest.mark.nightly

# Products of two halves of a batch are summed in another order than those of the whole.
FLOAT32 = 1e-4
BFLOAT16 = 2e-2
LIBRARY = "attached"


def launched(python: Path, job: str, folder: Path) -> Any:
    paths = os.pathsep.join(path for path in sys.path if path)
    return run(
        *(python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(zero_runs.__file__, job, LIBRARY, folder / "result.pt"),
        variables={"PYTHONPATH": paths, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        cwd=folder,
        timeout=1200,
    )


def assert_close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    assert found["parameters"].keys() == expected["parameters"].keys()
    for name, parameter in expected["parameters"].items():
        mine = found["parameters"][name].float()
        torch.testing.assert_close(mine, parameter, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    "job", ["with_loop", "with_zero1", "like_lora", "with_bfloat16", "with_trainer"]
)
def test_two_processes_are_one(job: str, python_with_deepspeed: Path, tmp_path: Path) -> None:
    single = job if job in {"like_lora", "with_trainer"} else "with_loop"
    expected = zero_runs.outcome(zero_runs.JOBS[single](LIBRARY, tmp_path / "single"))
    done = launched(python_with_deepspeed, job, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    found = torch.load(tmp_path / "result.pt")
    is_exact = job != "with_bfloat16"
    assert found["budgets"] == expected["budgets"]
    assert found["last_step"] == zero_runs.STEPS - 1
    if is_exact:
        assert found["ranks"] == expected["ranks"]
    assert_close(found, expected, FLOAT32 if is_exact else BFLOAT16)


def test_the_best_checkpoint_is_loaded_with_its_state(
    python_with_deepspeed: Path, tmp_path: Path
) -> None:
    with pytest.warns(RunWarning, match="ADA812"):
        model = zero_runs.with_best_model(LIBRARY, tmp_path / "single")
    expected = zero_runs.outcome(model)
    done = launched(python_with_deepspeed, "with_best_model", tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "ADA812" in done.stderr
    found = torch.load(tmp_path / "result.pt")
    for name in ("budgets", "ranks", "last_step"):
        assert found[name] == expected[name], name
    assert expected["last_step"] == zero_runs.STOP - 1
    assert_close(found, expected, FLOAT32)


def test_a_loop_that_ignores_the_division_is_refused(
    python_with_deepspeed: Path, tmp_path: Path
) -> None:
    done = launched(python_with_deepspeed, "without_hook", tmp_path)
    assert done.returncode != 0
    assert "ParallelismError: forward:" in done.stderr
    assert "call allocate_on_step(engine, model)" in done.stderr
