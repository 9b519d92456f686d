"""Trainer and accelerate in two processes, started as users start them, are one process."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import launched_runs
import pytest
import torch
from programs import output_of_python
from saved_folders import assert_same_folders

from adalora_core import RunWarning

LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate": [
        *("accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"),
        # What runs torchrun; its processes are told below to use the CPU.
        *("--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--main_process_port", "0"),
    ],
}

ADAPTER = {"README.md", "adapter_config.json", "adapter_model.safetensors"}


def launched(launcher: str, job: str, library: str, folder: Path, world: int = 2) -> Any:
    result = folder / "result.pt"
    command = [str(world) if each == "2" else each for each in LAUNCHERS[launcher]]
    paths = os.pathsep.join(path for path in sys.path if path)
    output_of_python(
        *("-m", *command, launched_runs.__file__, job, library, result),
        variables={"PYTHONPATH": paths, "ACCELERATE_USE_CPU": "true"},
        cwd=folder,
        timeout=1200,
    )
    return torch.load(result)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in ("last_step", "ranks", "budgets"):
        assert found[name] == expected[name], name
    assert found["parameters"].keys() == expected["parameters"].keys()
    for name, parameter in expected["parameters"].items():
        torch.testing.assert_close(found["parameters"][name], parameter, atol=1e-9, rtol=0)


SLOW = [
    ("torchrun", "with_trainer", "attached"),
    ("accelerate", "fsdp2_accelerate", "adalora_core"),
]
NIGHTLY = [
    ("accelerate", "with_label_smoothing", "attached"),
    ("accelerate", "with_accelerate", "attached"),
    ("torchrun", "fsdp2_trainer", "attached"),
    ("accelerate", "fsdp2_trainer_sharded_files", "attached"),
    ("torchrun", "fsdp2_accelerate", "attached"),
]


@pytest.mark.parametrize(
    ("launcher", "job", "library"),
    [
        *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW),
        *(pytest.param(*each, marks=pytest.mark.nightly) for each in NIGHTLY),
    ],
)
def test_two_processes_are_one_with_the_same_global_batch(
    launcher: str, job: str, library: str, tmp_path: Path
) -> None:
    expected = launched_runs.outcome(launched_runs.JOBS[job](library, tmp_path / "single"))
    (tmp_path / "launched").mkdir()
    found = launched(launcher, job, library, tmp_path / "launched")
    assert found["world"] == 2
    assert found["last_step"] == launched_runs.STEPS - 1
    assert len(set(expected["budgets"])) > 3
    assert_same(found, expected)
    if job.startswith("fsdp2"):
        final = tmp_path / "launched" / "checkpoints" / "final"
        more = {"training_args.bin"} if job == "fsdp2_trainer" else set()
        names = (ADAPTER | more) - ({"README.md"} if library == "adalora_core" else set())
        assert_same_folders(final, tmp_path / "single" / "final", names)


@pytest.mark.parametrize(
    ("job", "library", "saved", "resumed"),
    [
        pytest.param("trainer", "attached", 1, 2, marks=pytest.mark.slow),
        pytest.param("trainer", "attached", 2, 1, marks=pytest.mark.nightly),
        pytest.param("fsdp2_trainer", "attached", 2, 4, marks=pytest.mark.nightly),
        pytest.param("fsdp2_trainer_sharded_files", "attached", 2, 4, marks=pytest.mark.nightly),
    ],
)
def test_trainer_resumes_with_another_number_of_processes(
    job: str, library: str, saved: int, resumed: int, tmp_path: Path
) -> None:
    def outcome(job: str, world: int) -> dict[str, Any]:
        if world > 1:
            return dict(launched("torchrun", job, library, tmp_path, world))
        model = launched_runs.JOBS[job](library, tmp_path / "checkpoints")
        return launched_runs.outcome(model) | {"world": 1}

    expected = outcome("with_trainer" if job == "trainer" else job, saved)
    found = outcome(f"{job}_resumed", resumed)
    assert (expected["world"], found["world"]) == (saved, resumed)
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("best", "files"),
    [
        pytest.param(10, "FULL", marks=pytest.mark.slow),
        pytest.param(24, "SHARDED", marks=pytest.mark.nightly),
    ],
)
def test_the_best_checkpoint_is_loaded_under_fsdp2(best: int, files: str, tmp_path: Path) -> None:
    library = "attached"
    job = f"fsdp2_best_model_{best}_{files}"
    is_unpruned = best == 10
    with pytest.warns(RunWarning, match="ADA812") if is_unpruned else nullcontext():
        launched_runs.JOBS[job](library, tmp_path / "single")
    (tmp_path / "launched").mkdir()
    launched("torchrun", job, library, tmp_path / "launched")
    found, expected = (
        folder / "final" for folder in (tmp_path / "launched" / "checkpoints", tmp_path / "single")
    )
    assert_same_folders(found, expected, ADAPTER, with_state=is_unpruned)
