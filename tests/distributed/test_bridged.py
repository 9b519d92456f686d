"""A model that PEFT made and that is attached goes through many processes as ours does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import peft
import pytest
import torch
from bridged_runs import run, save_at
from distributed_runs import Blocks
from process_groups import run_processes
from safetensors.torch import load_file

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
    expected, found = tmp_path / "by-ddp", tmp_path / "by-fsdp2"
    names = {path.name for path in expected.iterdir()}
    assert {path.name for path in found.iterdir()} == names
    assert {"adalora_state.json", "adapter_model.safetensors"} <= names
    state, whole_state = (
        json.loads((each / "adalora_state.json").read_text()) for each in (found, expected)
    )
    assert state == whole_state
    for name in sorted(each for each in names if each.endswith(".safetensors")):
        mine, theirs = load_file(found / name), load_file(expected / name)
        assert mine.keys() == theirs.keys()
        for key, tensor in theirs.items():
            torch.testing.assert_close(mine[key], tensor, atol=1e-6, rtol=0)
    peft.PeftModel.from_pretrained(Blocks(), found)
