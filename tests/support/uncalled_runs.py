"""Runs of `TwoLayer` in which nobody allocates, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from adalora_runs import allocator_of, make, optimizer_of
from run_loops import backward
from toy_models import TwoLayer

from adalora_core import allocate_automatically

doors = pytest.mark.parametrize(
    "library", ["attached", pytest.param("adalora_core", marks=pytest.mark.slow)]
)


@pytest.fixture
def switch() -> Iterator[None]:
    """Let the package allocate, and again after the test."""
    allocate_automatically(True)
    yield
    allocate_automatically(True)


LATE = {"total_step": 40, "tinit": 6, "tfinal": 10}
"""A schedule whose first allocation comes after the decision, at step 3."""


def begin(library: str, **changes: Any) -> tuple[Any, torch.optim.Optimizer]:
    torch.manual_seed(7)
    model = make(library, TwoLayer(), **{**LATE, **changes}).train()
    return model, optimizer_of(model)


def silent(model: Any, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Train and call nothing."""
    for step in steps:
        backward(model, step)
        optimizer.step()
        optimizer.zero_grad()


def called(model: Any, optimizer: Any, steps: range, calls: Callable[[int], bool]) -> None:
    for step in steps:
        backward(model, step)
        optimizer.step()
        if calls(step):
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()


def state_of(model: Any) -> dict[str, Any]:
    """Return everything that a run changes: parameters, averages, kept sets and their history."""
    allocator = allocator_of(model)
    names = (name for name, _ in model.named_parameters())
    return {
        **dict(zip(names, (each.detach().clone() for each in model.parameters()), strict=True)),
        **{f"smoothed {at}": each for at, each in enumerate(allocator.statistics.smoothed)},
        **{f"uncertain {at}": each for at, each in enumerate(allocator.statistics.uncertainty)},
        "mask": allocator.mask,
        "history": [(each.step, each.budget, each.allocated) for each in allocator.history],
        "last step": allocator.last_step,
        "final": allocator.target_reached,
    }


def assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(state_of(one), state_of(other), rtol=0, atol=0)


def run_of(model: Any) -> Any:
    return model.base_model.trained_adapters()[0].run


def is_automatic(model: Any) -> bool:
    return bool(run_of(model).automatic.is_active)
