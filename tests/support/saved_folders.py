"""Compare folders that two runs of the same training have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from adalora_core.training.adapter_file.folder import read_adapter
from adalora_core.training.adapter_file.tensors import row_positions
from adalora_core.training.training_state.state import read_state

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def state_in(folder: Path) -> Path:
    """Return the only training state in `folder`."""
    (path,) = folder.glob("adalora_state.*")
    return path


def assert_same_folders(
    found: Path, expected: Path, names: set[str], *, with_state: bool = False
) -> None:
    """Both hold the files `names`, and a training state if one is wanted, and the same in them.

    Numbers are equal up to rounding.
    """
    for folder in (found, expected):
        states = {state_in(folder).name} if with_state else set()
        assert {path.name for path in folder.iterdir()} == names | states
    mine, theirs = (_config(each) for each in (found, expected))
    assert mine == theirs
    _assert_close(load_file(found / WEIGHTS), load_file(expected / WEIGHTS))
    if with_state:
        mine, theirs = (_state(each) for each in (found, expected))
        _assert_close(mine.factors, theirs.factors)
        assert mine.averages["smoothed"]
        for kind, averages in theirs.averages.items():
            _assert_close(mine.averages[kind], averages)
        for state in (mine, theirs):
            del state.values["weights"]  # of every bit of the factors
            state.values["config"]["target_modules"].sort()  # a set, as in `_config`
        assert mine.values == theirs.values


def _config(folder: Path) -> dict[str, Any]:
    values = json.loads((folder / CONFIG).read_bytes())
    # PEFT writes a set in an order that differs from process to process.
    return values | {"target_modules": sorted(values["target_modules"])}


def _state(folder: Path) -> Any:
    saved, state = read_adapter(folder), read_state(folder)
    assert state is not None
    state.complete(saved, row_positions(saved))
    return state


def _assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-9, rtol=0)
