"""PEFT's files, and the training state beside them, do not depend on how a model was divided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
from distributed_checks import save_and_read_at_once, save_pretrained_at
from distributed_runs import Blocks, adapted, attached
from process_groups import run_processes
from saved_folders import assert_same_folders


@pytest.mark.parametrize(
    ("stop", "make"),
    [(10, adapted), (30, adapted), pytest.param(10, attached, marks=pytest.mark.slow)],
    ids=["unfinished", "finished", "attached"],
)
def test_a_sharded_model_writes_the_files_of_a_whole_one(
    stop: int, make: Any, tmp_path: Path
) -> None:
    for kind in ("ddp", "fsdp2"):
        run_processes(2, save_pretrained_at, tmp_path / kind, kind, stop, tmp_path, make)
    names = {"adapter_config.json", "adapter_model.safetensors"}
    names |= {"README.md"} if make is attached else set()
    found, expected = tmp_path / "by-fsdp2", tmp_path / "by-ddp"
    assert_same_folders(found, expected, names, with_state=stop < 30)
    peft.PeftModel.from_pretrained(Blocks(), found)


def test_processes_that_save_into_one_folder_leave_one_save_whole(
    library: str, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    results = run_processes(2, save_and_read_at_once, tmp_path / "results", library, folder)
    written = {model for model, _ in results}
    assert len(written) == 2
    for _, read in results:
        assert read <= written
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    states = {each.name for each in folder.iterdir()} - names
    assert [name.startswith("adalora_state.") for name in states] == [True]
