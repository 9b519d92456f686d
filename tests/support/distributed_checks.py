"""What the processes do in tests of resuming, failures, collectives and refusals."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed.checkpoint as dcp
from distributed_runs import (
    STEPS,
    Trace,
    adapted,
    batch,
    optimizer_of,
    shard,
    train,
    whole_parameters,
    wrap,
)
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh

from adalora_core.errors import AdaLoraError
from adalora_core.integrations.distributed import AdapterState, check_agreement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def allocator_of(model: Any) -> Any:
    return model.base_model.trained_adapters()[0].allocator


# --- checkpoints ---------------------------------------------------------------------------------


def train_and_save(
    _rank: int, kind: str, stop: int, folder: Path, make: Callable[[], Any] = adapted
) -> Trace:
    """Train until before `stop`, then save."""
    model = make()
    wrapped = wrap(model, kind)
    optimizer = optimizer_of(model)
    trace = train(wrapped, model, range(stop), optimizer=optimizer)
    states = {"adapter": AdapterState(wrapped), "optimizer": _optimizer_state(model, optimizer)}
    dcp.save(states, checkpoint_id=folder)
    return trace


def load_and_train(
    _rank: int, kind: str, start: int, folder: Path, make: Callable[[], Any] = adapted
) -> Trace:
    """Make the model anew, load, go on from `start`."""
    model = make()
    wrapped = wrap(model, kind)
    optimizer = optimizer_of(model)
    states = {"adapter": AdapterState(wrapped), "optimizer": _optimizer_state(model, optimizer)}
    dcp.load(states, checkpoint_id=folder)
    set_optimizer_state_dict(model, optimizer, states["optimizer"])
    return train(wrapped, model, range(start, STEPS), optimizer=optimizer)


def compact_and_shard(_rank: int, start: int, folder: Path) -> Trace:
    """Load a run of a sharded model into a whole one, compact it, shard that and go on."""
    model = adapted(orth_reg_weight=0.0)
    optimizer = optimizer_of(model)
    states = {"adapter": AdapterState(model), "optimizer": _optimizer_state(model, optimizer)}
    dcp.load(states, checkpoint_id=folder)
    set_optimizer_state_dict(model, optimizer, states["optimizer"])
    report = model.compact(optimizer)
    assert report.parameters_after < report.parameters_before
    moments = get_optimizer_state_dict(
        model, optimizer, options=StateDictOptions(full_state_dict=True)
    )
    wrapped = wrap(model, "fsdp2")
    optimizer = optimizer_of(model)
    set_optimizer_state_dict(
        model, optimizer, moments, options=StateDictOptions(full_state_dict=True)
    )
    trace = train(wrapped, model, range(start, STEPS), optimizer=optimizer)
    trace.outputs = _logits(wrapped)
    return trace


def train_masked(_rank: int, kind: str, stop: int, folder: Path) -> Trace:
    """Train without a penalty, save before `stop`, go on to the end."""
    model = adapted(orth_reg_weight=0.0)
    wrapped = wrap(model, kind)
    optimizer = optimizer_of(model)
    train(wrapped, model, range(stop), optimizer=optimizer)
    states = {"adapter": AdapterState(wrapped), "optimizer": _optimizer_state(model, optimizer)}
    dcp.save(states, checkpoint_id=folder)
    trace = train(wrapped, model, range(stop, STEPS), optimizer=optimizer)
    trace.outputs = _logits(wrapped)
    return trace


@torch.no_grad()
def _logits(wrapped: Any) -> torch.Tensor:
    return wrapped(**batch(99, 0, 1, torch.float64)).logits.clone()


def _optimizer_state(model: Any, optimizer: torch.optim.Optimizer) -> Any:
    return get_optimizer_state_dict(model, optimizer)


def load_into_another_run(_rank: int, folder: Path) -> str:
    """Load a checkpoint into a model with another schedule; return the refusal."""
    model = adapted(target_r=2)
    before = whole_parameters(model)
    try:
        dcp.load({"adapter": AdapterState(model)}, checkpoint_id=folder)
    except Exception as error:  # noqa: BLE001 - DCP wraps what a rank raises in its own error
        unchanged = all(torch.equal(before[k], v) for k, v in whole_parameters(model).items())
        return f"{error} unchanged={unchanged}"
    return "no error"


def adapted_with_more() -> Any:
    """Return a model that also trains a module whole, and biases."""
    return adapted(target_modules=["0"], modules_to_save=["head"], bias="lora_only")


# --- variations of the step ----------------------------------------------------------------------


def run_accumulating(rank: int, kind: str, parts: int) -> Trace:
    """Train with every batch in micro-batches, synchronised at the last of them."""
    world = distributed.get_world_size() if distributed.is_initialized() else 1
    model = adapted()
    wrapped = wrap(model, kind)
    optimizer = optimizer_of(model)
    trace = Trace()
    wrapped.train()
    for step in range(STEPS):
        mine = batch(step, rank, world, torch.float64)
        for part in range(parts):
            is_last = part == parts - 1
            micro = {name: each[part::parts] for name, each in mine.items()}
            if kind == "fsdp2":
                wrapped.set_requires_gradient_sync(is_last)
            waits = kind == "ddp" and not is_last
            with wrapped.no_sync() if waits else contextlib.nullcontext():
                (wrapped(**micro).loss / parts).backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        trace.budgets.append(allocator_of(model).budget)
        trace.masks.append(allocator_of(model).mask)
    trace.masks = [None if each is None else each.tolist() for each in trace.masks]
    trace.parameters = whole_parameters(model)
    return trace


def run_with_a_loss_of_its_own(rank: int, kind: str) -> Trace:
    """Train by a loss outside of the model, clip; `losses` become the norms of the gradients."""
    world = distributed.get_world_size() if distributed.is_initialized() else 1
    model = adapted()
    wrapped = wrap(model, kind)
    optimizer = optimizer_of(model)
    trace = Trace()
    wrapped.train()
    for step in range(STEPS):
        mine = batch(step, rank, world, torch.float64)
        logits = wrapped(**mine).logits
        loss = nn.functional.cross_entropy(logits, mine["labels"], label_smoothing=0.1)
        (loss + model.orthogonality_penalty()).backward()
        norm = nn.utils.clip_grad_norm_(wrapped.parameters(), 0.01)
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        trace.budgets.append(allocator_of(model).budget)
        trace.masks.append(allocator_of(model).mask)
        trace.losses.append(float(norm.full_tensor() if kind == "fsdp2" else norm))
    trace.masks = [None if each is None else each.tolist() for each in trace.masks]
    trace.parameters = whole_parameters(model)
    return trace


def run_with_options(_rank: int, options: dict[str, Any], dtype: torch.dtype) -> Trace:
    """Train under FSDP2 with options of `fully_shard`."""
    model = adapted(dtype)
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    return train(shard(model, mesh, **options), model, range(STEPS), dtype=dtype)


def run_evaluating_in_between(rank: int) -> Trace:
    """Put a forward pass without gradients between the optimizer's step and the allocation."""
    world = distributed.get_world_size()
    model = adapted()
    wrapped = wrap(model, "fsdp2")
    update = model.update_and_allocate

    def evaluate_first(step: int) -> None:
        with torch.no_grad():
            wrapped(**batch(step, rank, world, torch.float64))
        update(step)

    model.update_and_allocate = evaluate_first
    return train(wrapped, model, range(STEPS))


# --- failures ------------------------------------------------------------------------------------


def run_with_bad_gradients(rank: int, kind: str) -> tuple[Trace, int]:
    """Let the loss of rank 1 overflow at two steps."""
    model = adapted()
    wrapped = wrap(model, kind)
    optimizer = optimizer_of(model)
    world = distributed.get_world_size()
    trace = Trace()
    wrapped.train()
    for step in range(STEPS):
        loss = wrapped(**batch(step, rank, world, torch.float64)).loss
        is_bad = step in {6, 9}
        (loss * (float("inf") if is_bad and rank == 1 else 1)).backward()
        if not is_bad:  # as a loop that looks at the gradient norm does, on every rank
            optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        trace.masks.append(allocator_of(model).mask)
        trace.budgets.append(allocator_of(model).budget)
    trace.masks = [None if each is None else each.tolist() for each in trace.masks]
    trace.parameters = whole_parameters(model)
    check_agreement(wrapped)
    return trace, allocator_of(model).statistics.skipped_entries


def die_before_backward(rank: int) -> dict[str, Any]:
    """Let rank 1 leave DDP before the backward pass of step 4; return what the other then holds."""
    model = adapted()
    wrapped = wrap(model, "ddp")
    optimizer = optimizer_of(model)
    train(wrapped, model, range(4), optimizer=optimizer)
    before = allocator_of(model).mask
    values = [each.detach().clone() for each in allocator_of(model).parameters()]
    if rank == 1:
        os._exit(0)
    try:
        train(wrapped, model, range(4, 5), optimizer=optimizer)
    except RuntimeError as error:
        now = allocator_of(model).parameters()
        return {
            "error": str(error),
            "mask_is_the_old_one": allocator_of(model).mask is before,
            "values_are_the_old_ones": all(map(torch.equal, values, now)),
            "last_step": allocator_of(model).last_step,
        }
    return {"error": "none"}


def die_before_allocation(rank: int) -> dict[str, Any] | None:
    """Let rank 1 leave before the all-reduce of step 4; return what the others then hold."""
    model = adapted()
    wrapped = wrap(model, "fsdp2")
    optimizer = optimizer_of(model)
    train(wrapped, model, range(4), optimizer=optimizer)
    before = allocator_of(model).mask
    world = distributed.get_world_size()
    wrapped(**batch(4, rank, world, torch.float64)).loss.backward()
    optimizer.step()
    values = [each.to_local().clone() for each in allocator_of(model).parameters()[1::3]]
    if rank == 1:
        os._exit(0)
    try:
        model.update_and_allocate(4)
    except RuntimeError as error:
        now = [each.to_local() for each in allocator_of(model).parameters()[1::3]]
        return {
            "error": str(error),
            "mask_is_the_old_one": allocator_of(model).mask is before,
            "values_are_the_old_ones": all(map(torch.equal, values, now)),
            "last_step": allocator_of(model).last_step,
        }
    return None


def disagree(rank: int, spoil: str) -> str:
    """Spoil the state of rank 1; return what the check says on this rank."""
    model = adapted()
    wrapped = wrap(model, "ddp")
    train(wrapped, model, range(10))
    check_agreement(wrapped)
    allocator = allocator_of(model)
    if rank == 1:
        if spoil == "kept set":
            allocator.mask[0] = ~allocator.mask[0]
        elif spoil == "averages":
            allocator.statistics.smoothed[0][0, 0] += 1e-12
        elif spoil == "step":
            allocator.last_step += 1
        else:
            with torch.no_grad():
                allocator.parameters()[0][0, 0] += 1e-12
    try:
        check_agreement(wrapped)
    except AdaLoraError as error:
        return str(error)
    return "no error"


# --- refusals ------------------------------------------------------------------------------------


def refusal(_rank: int, attempt: Callable[[], None]) -> str:
    """Return the type and the text of what `attempt` raises."""
    try:
        attempt()
    except Exception as error:  # noqa: BLE001 - the test looks at which it is
        return f"{type(error).__name__}: {error}"
    return "no error"


def one_step(wrapped: nn.Module, model: Any) -> None:
    """Train one step."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    optimizer = optimizer_of(model)
    wrapped.train()
    wrapped(**batch(0, rank, world, torch.float64)).loss.backward()
    optimizer.step()
    model.update_and_allocate(0)


def save_pretrained_at(rank: int, kind: str, stop: int, folder: Path) -> None:
    """Train until before `stop` and save in PEFT's format, as scripts do."""
    model = adapted()
    wrapped = wrap(model, kind)
    train(wrapped, model, range(stop))
    with torch.no_grad():
        wrapped.eval()(**batch(0, rank, distributed.get_world_size(), torch.float64))
    model.save_pretrained(
        folder / f"by-{kind}", is_main_process=rank == 0, save_training_state=stop < STEPS or None
    )


def scores_at(_rank: int, kind: str, stop: int) -> torch.Tensor:
    """Return the importance scores after `stop` steps."""
    model = adapted()
    train(wrap(model, kind), model, range(stop))
    allocator = allocator_of(model)
    return allocator._factors().scores(allocator.statistics)
