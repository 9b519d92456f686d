"""A training state on disk, and ways to spoil it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from adalora_runs import make, train
from saved_folders import state_in
from toy_models import two_layer

from adalora_core.training.training_state.state import decode_file, encode_file

SCHEDULE = {"tinit": 8, "tfinal": 12, "total_step": 40, "deltaT": 5}
AFTER_AN_ALLOCATION = 21
"""Allocations at the steps 10, 15 and 20."""

Edit = "Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]"


def save_at(stop: int, folder: Path, **changes: Any) -> Any:
    """Train until before `stop`, save, and return the model."""
    model = make("adalora_core", two_layer(), **SCHEDULE | changes)
    train(model, range(stop))
    model.save_pretrained(folder)
    return model


def edit(folder: Path, change: Edit) -> None:
    """Change values and tensors of the state by hand, and give it a digest that fits."""
    path = state_in(folder)
    values, tensors = decode_file(path.read_bytes())
    change(values, tensors)
    path.write_bytes(encode_file(values, tensors))


def value(*keys: Any, to: Any) -> Edit:
    """Return an edit of one value, at `keys`."""

    def change(values: dict[str, Any], _: Any) -> None:
        place: Any = values
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to

    return change


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Edit:
    """Return an edit of one tensor."""

    def edited(_: Any, tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = change(tensors[name])

    return edited


def average(name: str, number: float) -> Edit:
    """Return an edit of the first number of an average."""

    def edited(_: Any, tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[0] = number

    return edited
