"""Loops of training runs, right ones and faulty ones, and what is found about them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from adalora_runs import end_step, make, optimizer_of
from torch import nn
from toy_models import TwoLayer, two_layer_batch

from adalora_core import RunWarning, allocate_automatically
from adalora_core.bridge import install

STEPS = 30


def backward(model: Any, step: int, factor: float = 1.0) -> None:
    (model(**two_layer_batch(step)).loss * factor).backward()


def ready(library: str, **changes: Any) -> tuple[Any, torch.optim.Optimizer]:
    """Return a model in training mode, and the optimizer of what it trains."""
    model = make(library, TwoLayer(), **changes).train()
    return model, optimizer_of(model)


def right(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    backward(model, step)
    end_step(model, optimizer, step)


def train_rightly(model: Any, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        right(model, optimizer, step)


def without_calls(model: Any, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> None:
    for step in range(steps):
        backward(model.train(), step)
        optimizer.step()
        optimizer.zero_grad()


def report_without_calls(_rank: int, model: Any) -> str:
    """Return the report of a model that came from another process, after a run."""
    install()  # as the changed import of the script does in each process
    without_calls(model, optimizer_of(model))
    return str(model.run_report())


def found(run: Callable[[], object]) -> list[warnings.WarningMessage]:
    """Return the findings of `run`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [each for each in caught if issubclass(each.category, RunWarning)]


def codes(run: Callable[[], object]) -> list[str]:
    return [str(each.message)[:6] for each in found(run)]


def run_of(library: str, loop: Any, steps: int = STEPS, **changes: Any) -> tuple[Any, list[str]]:
    """Return a model after a run of `loop`, and the codes of what was found."""
    torch.manual_seed(7)
    model, optimizer = ready(library, **changes)
    return model, codes(lambda: [loop(model, optimizer, step) for step in range(steps)])


# --- the loops of the table -----------------------------------------------------------------------


def allocates_before_step(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    backward(model, step)
    model.base_model.update_and_allocate(step)
    optimizer.step()
    optimizer.zero_grad()


def allocates_per_micro_batch(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    backward(model, step)
    model.base_model.update_and_allocate(step)
    if step % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()


def allocates_after_zero_grad(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    backward(model, step)
    optimizer.step()
    optimizer.zero_grad()
    model.base_model.update_and_allocate(step)


def allocates_after_gradients_are_zeroed(
    model: Any, optimizer: torch.optim.Optimizer, step: int
) -> None:
    backward(model, step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    model.base_model.update_and_allocate(step)


def has_no_gradient(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    model(**two_layer_batch(step))
    optimizer.step()
    model.base_model.update_and_allocate(step)


def has_zero_gradients(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    backward(model, step, 0.0)
    end_step(model, optimizer, step)


def has_a_loss_of_nan(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    backward(model, step, float("nan"))
    end_step(model, optimizer, step)


def is_never_allocated(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    allocate_automatically(False, model)
    backward(model, step)
    optimizer.step()
    optimizer.zero_grad()


def starts_again_each_epoch(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    right(model, optimizer, step % 10)


def jumps(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    right(model, optimizer, step if step < 5 else step + 7)


def starts_above_0(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    right(model, optimizer, step + 12)


def counts_from_1(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    right(model, optimizer, step + 1)


def leaves_the_penalty_out(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    batch = two_layer_batch(step)
    nn.functional.cross_entropy(model(batch["x"]).logits, batch["labels"]).backward()
    end_step(model, optimizer, step)


def counts_the_penalty_twice(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    loss = model(**two_layer_batch(step)).loss
    (loss + model.base_model.orthogonality_penalty()).backward()
    end_step(model, optimizer, step)
