"""PEFT's files, and the training state beside them, do not depend on how a model was divided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from distributed_checks import save_pretrained_at
from process_groups import run_processes
from saved_folders import assert_same_folders

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("stop", [10, 30], ids=["unfinished", "finished"])
def test_a_sharded_model_writes_the_files_of_a_whole_one(stop: int, tmp_path: Path) -> None:
    for kind in ("ddp", "fsdp2"):
        run_processes(2, save_pretrained_at, tmp_path / kind, kind, stop, tmp_path)
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    found, expected = tmp_path / "by-fsdp2", tmp_path / "by-ddp"
    assert_same_folders(found, expected, names, with_state=stop < 30)
