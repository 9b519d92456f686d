"""Compare folders that two runs of the same training have written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from adalora_core.training.adapter_file.checks import row_positions
from adalora_core.training.adapter_file.folder import read_adapter
from adalora_core.training.training_state.state import STATE_NAME, read_state

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = "adapter_model.safetensors"


def assert_same_folders(found: Path, expected: Path, names: set[str]) -> None:
    """Both hold the files `names` and the same in them, up to rounding."""
    assert {path.name for path in found.iterdir()} == names
    assert {path.name for path in expected.iterdir()} == names
    for name in names:
        if name.endswith(".json"):
            mine, theirs = (_values(each / name) for each in (found, expected))
            assert mine == theirs
    _assert_close(load_file(found / WEIGHTS), load_file(expected / WEIGHTS))
    if STATE_NAME in names:
        mine, theirs = (_state(each) for each in (found, expected))
        _assert_close(mine.factors, theirs.factors)
        assert mine.averages["smoothed"]
        for kind, averages in theirs.averages.items():
            for one, other in zip(mine.averages[kind], averages, strict=True):
                torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
        assert torch.equal(mine.tensors["mask"], theirs.tensors["mask"])


def _values(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    values.pop("kept", None)  # of every bit of the factors
    return values


def _state(folder: Path) -> Any:
    saved, state = read_adapter(folder), read_state(folder)
    assert state is not None
    state.complete(saved, row_positions(saved))
    return state


def _assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)
