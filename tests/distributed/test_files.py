"""PEFT's files, and the training state beside them, do not depend on how a model was divided."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from distributed_checks import save_pretrained_at
from process_groups import run_processes
from safetensors.torch import load_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("stop", [10, 30], ids=["unfinished", "finished"])
def test_a_sharded_model_writes_the_files_of_a_whole_one(stop: int, tmp_path: Path) -> None:
    for kind in ("ddp", "fsdp2"):
        run_processes(2, save_pretrained_at, tmp_path / kind, kind, stop, tmp_path)
    expected, found = tmp_path / "by-ddp", tmp_path / "by-fsdp2"
    names = {path.name for path in expected.iterdir()}
    assert {path.name for path in found.iterdir()} == names
    assert len(names) == (4 if stop < 30 else 2)
    for name in names:
        if name.endswith(".json"):
            assert json.loads((found / name).read_text()) == json.loads(
                (expected / name).read_text()
            )
            continue
        mine, theirs = load_file(found / name), load_file(expected / name)
        assert mine.keys() == theirs.keys()
        for key, tensor in theirs.items():
            torch.testing.assert_close(mine[key], tensor, atol=1e-6, rtol=0)
