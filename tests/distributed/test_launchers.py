"""Trainer and accelerate in two processes, started as users start them, are one process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import launched_runs
import pytest
import torch
from programs import output_of_python
from saved_folders import assert_same_folders

if TYPE_CHECKING:
    from pathlib import Path

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


def launched(launcher: str, job: str, library: str, folder: Path) -> Any:
    result = folder / "result.pt"
    paths = os.pathsep.join(path for path in sys.path if path)
    output_of_python(
        *("-m", *LAUNCHERS[launcher], launched_runs.__file__, job, library, result),
        variables={"PYTHONPATH": paths, "ACCELERATE_USE_CPU": "true"},
        cwd=folder,
        timeout=1200,
    )
    return torch.load(result)


SLOW = [
    ("torchrun", "with_trainer", "adalora_core"),
    ("torchrun", "with_trainer", "attached"),
    ("accelerate", "with_label_smoothing", "adalora_core"),
    ("accelerate", "with_accelerate", "attached"),
    ("torchrun", "fsdp2_trainer", "adalora_core"),
    ("accelerate", "fsdp2_trainer_sharded_files", "attached"),
    ("accelerate", "fsdp2_accelerate", "adalora_core"),
]
NIGHTLY = [
    ("torchrun", "fsdp2_trainer", "attached"),
    ("torchrun", "fsdp2_trainer_sharded_files", "adalora_core"),
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
    assert found["ranks"] == expected["ranks"]
    assert found["budgets"] == expected["budgets"]
    assert len(set(expected["budgets"])) > 3
    for name, parameter in expected["parameters"].items():
        torch.testing.assert_close(found["parameters"][name], parameter, atol=1e-9, rtol=0)
    if job.startswith("fsdp2"):
        final = tmp_path / "launched" / "checkpoints" / "final"
        more = {"training_args.bin"} if job == "fsdp2_trainer" else set()
        assert_same_folders(final, tmp_path / "single" / "final", ADAPTER | more)
