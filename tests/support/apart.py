"""Ways in which processes come apart; each function trains on one rank of two."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from adalora_runs import allocator_of, end_step, make, optimizer_of
from distributed_checks import refusal
from distributed_runs import (
    SETTINGS,
    STEPS,
    Blocks,
    Trace,
    adapted,
    batch,
    mine,
    train,
    whole_parameters,
    wrap,
)
from exchanges import counted_collectives
from torch import distributed, nn
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

from adalora_core.trainers.distributed import AdapterState, allocate_within
from adalora_core.training import agreement

FIRST_ALLOCATION = 4


def first_step(wrapped: Any, model: Any) -> None:
    train(wrapped, model, range(1))


# --- DDP looks at what learns when it is made -----------------------------------------------------


def unfrozen(library: str) -> None:
    model = adapted(library=library)
    factors = allocator_of(model).parameters()
    for factor in factors:
        factor.requires_grad_(False)
    model.get_base_model().head.base_layer.weight.requires_grad_(True)
    wrapped = wrap(model, "ddp")
    for factor in factors:
        factor.requires_grad_(True)
    first_step(wrapped, model)


def a_factor_by_hand() -> None:
    model = adapted()
    factor = allocator_of(model).parameters()[0].requires_grad_(False)
    wrapped = wrap(model, "ddp")
    train(wrapped, model, range(3))
    factor.requires_grad_(True)
    first_step(wrapped, model)


def a_bias_by_hand() -> None:
    model = adapted()
    wrapped = wrap(model, "ddp")
    model.get_base_model().head.base_layer.bias.requires_grad_(True)
    first_step(wrapped, model)


def joined() -> None:
    model = adapted()
    wrapped = wrap(model, "ddp")
    train(wrapped, model, range(2))
    with wrapped.join():
        train(wrapped, model, range(2, 9 - 4 * distributed.get_rank()))


def train_later(_rank: int, kind: str) -> Trace:
    """Unfreeze the adapter after wrapping, and train it."""
    model = adapted()
    for factor in allocator_of(model).parameters():
        factor.requires_grad_(False)
    wrapped = wrap(model, kind)
    for factor in allocator_of(model).parameters():  # fully_shard makes others
        factor.requires_grad_(True)
    return train(wrapped, model, range(STEPS))


# --- the processes hold something else ------------------------------------------------------------


def refused(rank: int, differ: Callable[[int], None]) -> str:
    """Return the type and the text of what `differ` raises on this rank."""
    return refusal(rank, lambda: differ(rank))


def another_step(rank: int) -> None:
    model = adapted()
    wrapped = wrap(model, "ddp")
    train(wrapped, model, range(rank, rank + 1))


def another_schedule(rank: int) -> None:
    model = adapted(tinit=2 + rank)
    first_step(wrap(model, "ddp"), model)


def another_assigned_schedule(rank: int) -> None:
    model = adapted()
    model.peft_config["default"].tinit = 2 + rank
    first_step(wrap(model, "ddp"), model)


def another_seed(rank: int) -> None:
    """Average gradients by hand, as loops without DDP do, from factors that differ."""
    base = Blocks()
    torch.manual_seed(rank)
    model = make("adalora_core", base, **SETTINGS)
    model(**mine(0)).loss.backward()
    for factor in allocator_of(model).parameters():
        distributed.all_reduce(factor.grad)
    model.update_and_allocate(0)


def another_gradient(rank: int, library: str = "adalora_core") -> None:
    model = adapted(library=library)
    wrapped = wrap(model, "ddp").train()
    wrapped(**mine(0)).loss.backward()
    allocator_of(model).parameters()[0].grad.mul_(1 + rank)
    model.update_and_allocate(0)


def another_gradient_later(rank: int) -> None:
    """Change the gradient of one rank at a step that is not compared, without a step of it."""
    model = adapted()
    wrapped = wrap(model, "ddp")

    def backward(step: int, given: dict[str, torch.Tensor]) -> torch.Tensor:
        loss: torch.Tensor = wrapped(**given).loss
        loss.backward()
        if step == 2 and rank == 1:
            allocator_of(model).parameters()[0].grad.mul_(2)
        return loss

    train(wrapped, model, range(FIRST_ALLOCATION + 1), backward=backward, skipped=range(9))


def another_checkpoint(rank: int, what: str) -> None:
    """Resume one rank from a state that differs in `what`."""
    model = adapted()
    wrapped = wrap(model, "ddp")
    train(wrapped, model, range(10))
    saved = copy.deepcopy(AdapterState(wrapped).state_dict())
    allocator = allocator_of(model)
    train(wrapped, model, range(10, 15))
    AdapterState(wrapped).load_state_dict(saved)
    if rank == 1:
        if what == "kept set":
            allocator.mask = ~allocator.mask
        elif what == "averages":
            allocator.statistics.smoothed[0][0, 0] += 1e-12
        else:
            allocator.last_step -= 1
    train(wrapped, model, range(10, 11))


def loaded_alone(rank: int) -> None:
    """Load a state on one rank alone, in the middle of a run."""
    model = adapted()
    wrapped = wrap(model, "ddp")
    train(wrapped, model, range(8))
    saved = copy.deepcopy(AdapterState(wrapped).state_dict())
    train(wrapped, model, range(8, 10))
    if rank == 1:
        AdapterState(wrapped).load_state_dict(saved)
    train(wrapped, model, range(10, STEPS))


def frozen_alone(rank: int) -> None:
    """Freeze a factor on one rank alone; the loop averages gradients by hand."""
    model = adapted().train()
    factors = allocator_of(model).parameters()

    def backward(step: int, given: dict[str, torch.Tensor]) -> torch.Tensor:
        loss: torch.Tensor = model(**given).loss
        loss.backward()
        for factor in factors:
            distributed.all_reduce(torch.zeros_like(factor) if factor.grad is None else factor.grad)
        factors[0].requires_grad_(step < 9 or rank == 0)
        return loss

    train(model, model, range(STEPS), backward=backward)


def stage_of(rank: int) -> Any:
    """Return the model of the stage `rank` of a pipeline."""
    torch.manual_seed(1)
    first = rank == 0
    part = nn.Sequential(nn.Linear(10, 7), nn.Tanh()) if first else nn.Sequential(nn.Linear(7, 3))
    settings = {**SETTINGS, "target_modules": ["0"], "orth_reg_weight": 0.0}
    return make("adalora_core", part.double(), **settings).train()


def pipeline_stages(rank: int, *, in_groups: bool) -> Trace:
    """Train a stage on each rank; return what the stage of this rank did."""
    model = stage_of(rank)
    stage = PipelineStage(model, rank, 2, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, 2, loss_fn=nn.functional.cross_entropy)
    if in_groups:
        groups = [distributed.new_group([each]) for each in range(2)]
        allocate_within(model, groups[rank])

    def backward(step: int, _given: dict[str, torch.Tensor]) -> torch.Tensor:
        given = batch(step)
        if rank == 0:
            schedule.step(given["x"])
        else:
            schedule.step(target=given["labels"])
        return torch.zeros(())

    return train(model, model, range(STEPS), backward=backward)


def both_stages() -> list[Trace]:
    """Train both stages in this process; return what each of them did."""
    first, second = stages = [stage_of(rank) for rank in range(2)]
    optimizers = [optimizer_of(each) for each in stages]
    traces = [Trace(), Trace()]
    for step in range(STEPS):
        given = batch(step)
        nn.functional.cross_entropy(second(first(given["x"])), given["labels"]).backward()
        for model, optimizer, trace in zip(stages, optimizers, traces, strict=True):
            end_step(model, optimizer, step)
            trace.note(model)
    for model, trace in zip(stages, traces, strict=True):
        trace.parameters = whole_parameters(model)
    return traces


def only_on_the_first(rank: int, folder: Path) -> str:
    """Let one rank allocate alone; the other one waits until it has given up."""
    agreement.PATIENCE_S = 2
    model = adapted().train()
    model(**mine(0)).loss.backward()
    done = folder / "done"
    if rank == 0:
        said = refusal(0, lambda: model.update_and_allocate(0))
        done.touch()
        return said
    while not done.exists():
        time.sleep(0.1)
    return "elsewhere"


# --- when the processes are compared --------------------------------------------------------------


def collectives_of_changes(_rank: int) -> dict[str, list[int]]:
    """Return how many collectives the allocations of some steps make."""
    model = adapted()
    wrapped = wrap(model, "ddp").train()
    found: dict[str, list[int]] = {}

    def take(what: str, *steps: int) -> None:
        for step in steps:
            wrapped(**mine(step)).loss.backward()
            count = counted_collectives(partial(model.update_and_allocate, step))
            found.setdefault(what, []).append(count)

    take("at first", *range(8))
    saved = copy.deepcopy(AdapterState(wrapped).state_dict())
    take("before loading", 8, 9, 10, 11, 12, 13, 14)
    AdapterState(wrapped).load_state_dict(saved)
    take("after loading", 8, 9)
    return found
