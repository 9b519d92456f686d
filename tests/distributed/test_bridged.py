"""A model that PEFT made and that is attached goes through many processes as ours does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
from distributed_checks import load_and_train, save_at, train_and_save
from distributed_runs import Blocks, assert_same, attached, run
from process_groups import run_processes
from saved_folders import assert_same_folders

pytestmark = [
    # The runs of test_equal_runs.py once more.
    pytest.mark.slow,
    # One process speaks with nobody, and says so.
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
]


@pytest.mark.parametrize("changes", [{}, {"init_lora_weights": "lora"}], ids=["", "like-lora"])
@pytest.mark.parametrize(
    ("kind", "world"), [("ddp", 2), ("fsdp2", 2), pytest.param("hsdp", 4, marks=pytest.mark.slow)]
)
def test_every_process_goes_the_way_of_the_single_one(
    kind: str, world: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    expected = run(0, "single", changes, attached)
    assert len(set(expected.budgets)) > 5
    for found in run_processes(world, run, tmp_path, kind, changes, attached):
        assert_same(found, expected)


@pytest.mark.parametrize("resumed", [("ddp", 2), ("fsdp2", 1)], ids=str)
def test_a_run_saved_by_two_goes_on(resumed: tuple[str, int], tmp_path: Path) -> None:
    expected = run(0, "single", {}, attached)
    folder, stop = tmp_path / "checkpoint", 11
    run_processes(2, train_and_save, tmp_path / "save", "fsdp2", stop, folder, attached)
    kind, world = resumed
    arguments = (kind, stop, folder, attached)
    for found in run_processes(world, load_and_train, tmp_path / "load", *arguments):
        assert_same(found, expected, stop)


def test_a_sharded_model_writes_the_files_of_a_whole_one(tmp_path: Path) -> None:
    for kind in ("ddp", "fsdp2"):
        run_processes(2, save_at, tmp_path / kind, kind, 10, tmp_path, attached)
    found, expected = tmp_path / "by-fsdp2", tmp_path / "by-ddp"
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert_same_folders(found, expected, names, with_state=True)
    peft.PeftModel.from_pretrained(Blocks(), found)
