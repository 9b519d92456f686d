"""A model that PEFT made and that is attached goes through many processes as ours does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import peft
import pytest
import torch
from bridged_runs import run, save_at
from distributed_runs import Blocks
from process_groups import run_processes
from saved_folders import assert_same_folders

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("kind", "world"), [("ddp", 2), ("fsdp2", 2), pytest.param("hsdp", 4, marks=pytest.mark.slow)]
)
def test_every_process_goes_the_way_of_the_single_one(
    kind: str, world: int, tmp_path: Path
) -> None:
    expected = run(0, "single", {})
    assert len(set(expected.budgets)) > 5
    for found in run_processes(world, run, tmp_path, kind, {}):
        assert found.budgets == expected.budgets
        assert found.masks == expected.masks
        for name, parameter in expected.parameters.items():
            torch.testing.assert_close(found.parameters[name], parameter, atol=1e-6, rtol=0)


def test_a_sharded_model_writes_the_files_of_a_whole_one(tmp_path: Path) -> None:
    for kind in ("ddp", "fsdp2"):
        run_processes(2, save_at, tmp_path / kind, kind, 10, tmp_path)
    found, expected = tmp_path / "by-fsdp2", tmp_path / "by-ddp"
    state = {"adalora_state.json", "adalora_state.safetensors"}
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", *state}
    assert_same_folders(found, expected, names)
    peft.PeftModel.from_pretrained(Blocks(), found)
