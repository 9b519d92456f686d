"""Run the processes of tests of resuming, failures, collectives and refusals."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from adalora_runs import LOADERS, allocator_of, load_again, optimizer_of
from distributed_runs import (
    STEPS,
    Blocks,
    Prepared,
    Trace,
    adapted,
    batch,
    mine,
    prepare,
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
from torch.distributed.fsdp import fully_shard

from adalora_core.floor.errors import AdaLoraError
from adalora_core.trainers.distributed import AdapterState, allocate_within, check_agreement

# --- checkpoints ---------------------------------------------------------------------------------


def _states(run: Prepared) -> dict[str, Any]:
    moments = get_optimizer_state_dict(run.model, run.optimizer)
    return {"adapter": AdapterState(run.wrapped), "optimizer": moments}


def _load(run: Prepared, folder: Path) -> None:
    states = _states(run)
    dcp.load(states, checkpoint_id=folder)
    set_optimizer_state_dict(run.model, run.optimizer, states["optimizer"])


def train_and_save(
    _rank: int, kind: str, stop: int, folder: Path, make: Callable[[], Any] = adapted
) -> Trace:
    """Train until before `stop`, then save."""
    run = prepare(kind, make)
    trace = train(run.wrapped, run.model, range(stop), optimizer=run.optimizer)
    dcp.save(_states(run), checkpoint_id=folder)
    return trace


def load_and_train(
    _rank: int, kind: str, start: int, folder: Path, make: Callable[[], Any] = adapted
) -> Trace:
    """Make the model anew, load, go on from `start`."""
    run = prepare(kind, make)
    _load(run, folder)
    return train(run.wrapped, run.model, range(start, STEPS), optimizer=run.optimizer)


def train_and_save_adapter(_rank: int, stop: int, folder: Path, make: Callable[[], Any]) -> None:
    """Train under FSDP2 until before `stop`; save the adapter in PEFT's format, and the moments."""
    run = prepare("fsdp2", make)
    train(run.wrapped, run.model, range(stop), optimizer=run.optimizer)
    run.model.save_pretrained(folder / "adapter", save_training_state=True)
    dcp.save({"moments": get_optimizer_state_dict(run.model, run.optimizer)}, checkpoint_id=folder)


def load_adapter_and_train(_rank: int, start: int, folder: Path, make: Callable[[], Any]) -> Trace:
    """Load an adapter into a model that FSDP2 has divided already, go on from `start`."""
    run = prepare("fsdp2", make)
    load_again(run.model, folder / "adapter")
    states = {"moments": get_optimizer_state_dict(run.model, run.optimizer)}
    dcp.load(states, checkpoint_id=folder)
    set_optimizer_state_dict(run.model, run.optimizer, states["moments"])
    return train(run.wrapped, run.model, range(start, STEPS), optimizer=run.optimizer)


def without_penalty() -> Any:
    """Return a model whose dropped triplets no gradient moves."""
    return adapted(orth_reg_weight=0.0)


def compact_and_shard(_rank: int, start: int, folder: Path) -> Trace:
    """Load a run of a sharded model into a whole one, compact it, shard that and go on."""
    whole = prepare("single", without_penalty)
    _load(whole, folder)
    model, _, optimizer = whole
    report = model.compact(optimizer)
    assert report.parameters_after < report.parameters_before
    options = StateDictOptions(full_state_dict=True)
    moments = get_optimizer_state_dict(model, optimizer, options=options)
    wrapped = wrap(model, "fsdp2")
    optimizer = optimizer_of(model)
    set_optimizer_state_dict(model, optimizer, moments, options=options)
    trace = train(wrapped, model, range(start, STEPS), optimizer=optimizer)
    trace.outputs = _logits(wrapped)
    return trace


def train_masked(_rank: int, kind: str, stop: int, folder: Path) -> Trace:
    """Train without a penalty, save before `stop`, go on to the end."""
    run = prepare(kind, without_penalty)
    train(run.wrapped, run.model, range(stop), optimizer=run.optimizer)
    dcp.save(_states(run), checkpoint_id=folder)
    trace = train(run.wrapped, run.model, range(stop, STEPS), optimizer=run.optimizer)
    trace.outputs = _logits(run.wrapped)
    return trace


@torch.no_grad()
def _logits(wrapped: Any) -> torch.Tensor:
    return wrapped(**batch(99)).logits.clone()


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


class Enclosing(nn.Module):
    """A module around the adapted model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **given: torch.Tensor) -> Any:
        """Return what the model returns."""
        return self.model(**given)


def save_after_an_evaluation(_rank: int, folder: Path) -> tuple[str, list[bool]]:
    """Save while the module around the adapted model holds factors whole, then after `reshard`.

    Returns:
        The refusal, and whether every process loads what was saved then.
    """
    model = adapted()
    outer = fully_shard(Enclosing(model), mesh=init_device_mesh("cpu", (2,)))
    train(outer, model, range(9))
    state = AdapterState(model)
    with torch.no_grad():
        outer(**batch(99))
    said = ""
    try:
        dcp.save({"adapter": state}, checkpoint_id=folder)
    except Exception as error:  # noqa: BLE001 - DCP wraps what a rank raises in its own error
        said = str(error)
    outer.reshard()
    dcp.save({"adapter": state}, checkpoint_id=folder)
    saved = state.state_dict()["default"]["smoothed"]
    again = adapted()
    fully_shard(Enclosing(again), mesh=init_device_mesh("cpu", (2,)))
    found = AdapterState(again)
    dcp.load({"adapter": found}, checkpoint_id=folder)
    loaded = found.state_dict()["default"]["smoothed"]
    return said, [
        torch.equal(loaded[name].full_tensor(), saved[name].full_tensor()) for name in saved
    ]


def adapted_with_more() -> Any:
    """Return a model that also trains a module whole, and biases."""
    return adapted(target_modules=["0"], modules_to_save=["head"], bias="lora_only")


# --- variations of the step ----------------------------------------------------------------------


def run_accumulating(_rank: int, kind: str, parts: int) -> Trace:
    """Train with every batch in micro-batches, synchronised at the last of them."""
    model, wrapped, optimizer = prepare(kind)

    def backward(_step: int, given: dict[str, torch.Tensor]) -> torch.Tensor:
        for part in range(parts):
            is_last = part == parts - 1
            micro = {name: each[part::parts] for name, each in given.items()}
            if kind == "fsdp2":
                wrapped.set_requires_gradient_sync(is_last)
            waits = kind == "ddp" and not is_last
            with wrapped.no_sync() if waits else contextlib.nullcontext():
                loss = wrapped(**micro).loss / parts
                loss.backward()
        return loss

    return train(wrapped, model, range(STEPS), optimizer=optimizer, backward=backward)


def run_with_a_loss_of_its_own(_rank: int, kind: str, adds: bool = False) -> Trace:
    """Train by a loss outside of the model, clip; `losses` become the norms of the gradients.

    With `adds`, the gradient of the penalty is added after the backward pass of the loss.
    """
    model, wrapped, optimizer = prepare(kind)

    def backward(_step: int, given: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = wrapped(**given).logits
        loss = nn.functional.cross_entropy(logits, given["labels"], label_smoothing=0.1)
        (loss if adds else loss + model.orthogonality_penalty()).backward()
        if adds:
            model.add_orthogonality_gradient_()
        norm = nn.utils.clip_grad_norm_(wrapped.parameters(), 0.01)
        return norm.full_tensor() if kind == "fsdp2" else norm

    return train(wrapped, model, range(STEPS), optimizer=optimizer, backward=backward)


def run_with_options(_rank: int, options: dict[str, Any], dtype: torch.dtype) -> Trace:
    """Train under FSDP2 with options of `fully_shard`."""
    model = adapted(dtype)
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    return train(shard(model, mesh, **options), model, range(STEPS), dtype=dtype)


def run_evaluating_in_between(_rank: int) -> Trace:
    """Put a forward pass without gradients between the optimizer's step and the allocation."""
    model, wrapped, optimizer = prepare("fsdp2")
    update = model.update_and_allocate

    def evaluate_first(step: int) -> None:
        with torch.no_grad():
            wrapped(**mine(step))
        update(step)

    model.update_and_allocate = evaluate_first
    return train(wrapped, model, range(STEPS), optimizer=optimizer)


# --- failures ------------------------------------------------------------------------------------


def run_with_bad_gradients(rank: int, kind: str) -> tuple[Trace, int]:
    """Let the loss of rank 1 overflow at two steps."""
    model, wrapped, optimizer = prepare(kind)
    bad = {6, 9}

    def backward(step: int, given: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = wrapped(**given).loss * (float("inf") if step in bad and rank == 1 else 1)
        loss.backward()
        return loss

    # Every rank leaves out these steps, as a loop does that looks at the gradient norm.
    trace = train(wrapped, model, range(STEPS), optimizer=optimizer, backward=backward, skipped=bad)
    check_agreement(wrapped)
    return trace, allocator_of(model).statistics.skipped_entries


def die_before_backward(rank: int) -> dict[str, Any]:
    """Let rank 1 leave DDP before the backward pass of step 4; return what the other then holds."""
    model, wrapped, optimizer = prepare("ddp")
    train(wrapped, model, range(4), optimizer=optimizer)
    return _left_alone(rank, model, lambda: train(wrapped, model, range(4, 5), optimizer=optimizer))


def die_before_allocation(rank: int) -> dict[str, Any]:
    """Let rank 1 leave before the all-reduce of step 4; return what the others then hold."""
    model, wrapped, optimizer = prepare("fsdp2")
    train(wrapped, model, range(4), optimizer=optimizer)
    wrapped(**mine(4)).loss.backward()
    optimizer.step()
    return _left_alone(rank, model, lambda: model.update_and_allocate(4))


def _left_alone(rank: int, model: Any, go_on: Callable[[], object]) -> dict[str, Any]:
    """End rank 1; return what another rank holds when it goes on."""
    allocator = allocator_of(model)
    mask, values = allocator.mask, [each.clone() for each in _local_values(allocator)]
    if rank == 1:
        os._exit(0)
    try:
        go_on()
    except RuntimeError as error:
        return {
            "error": str(error),
            "mask_is_the_old_one": allocator.mask is mask,
            "values_are_the_old_ones": all(map(torch.equal, values, _local_values(allocator))),
            "last_step": allocator.last_step,
        }
    return {"error": "none"}


def _local_values(allocator: Any) -> list[torch.Tensor]:
    found = [each.detach() for each in allocator.parameters()]
    return [each.to_local() if hasattr(each, "to_local") else each for each in found]


def disagree(rank: int, spoil: str) -> str:
    """Spoil the state of rank 1; return what the check reports on this rank."""
    model, wrapped, optimizer = prepare("ddp")
    train(wrapped, model, range(10), optimizer=optimizer)
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


def save_pretrained_at(
    rank: int, kind: str, stop: int, folder: Path, make: Callable[[], Any]
) -> None:
    """Train until before `stop`, evaluate, and save in PEFT's format, as scripts do."""
    model, wrapped, optimizer = prepare(kind, make)
    train(wrapped, model, range(stop), optimizer=optimizer)
    with torch.no_grad():
        wrapped.eval()(**mine(0))
    saved = folder / f"by-{kind}"
    model.save_pretrained(
        saved, is_main_process=rank == 0, save_training_state=stop < STEPS or None
    )
    # A process that saved its part of our own model may load at once what the first one wrote.
    assert kind == "ddp" or make is not adapted or (saved / "adapter_config.json").is_file()


def save_and_read_at_once(rank: int, library: str, folder: Path) -> tuple[Any, set[Any]]:
    """Save into a folder that the other rank saves into and both read.

    Returns:
        What the model of this rank is, and what was read.
    """
    model = adapted(library=library, lora_alpha=2 + rank)
    allocate_within(model, [distributed.new_group([each]) for each in range(2)][rank])
    train(model, model, range(6 + rank))
    found = set()
    for _ in range(20):
        model.save_pretrained(folder, save_training_state=True)
        read = LOADERS[library].from_pretrained(Blocks(), folder, is_trainable=True)
        found.add(_contents(read))
    return _contents(model), found


def _contents(model: Any) -> tuple[Any, ...]:
    adapter = model.base_model.trained_adapters()[0]
    return (
        model.peft_config["default"].lora_alpha,
        adapter.allocator.last_step,
        *(float(each.sum()) for each in adapter.allocator.parameters()),
    )


def scores_at(_rank: int, kind: str, stop: int) -> torch.Tensor:
    """Return the importance scores after `stop` steps."""
    model, wrapped, optimizer = prepare(kind)
    train(wrapped, model, range(stop), optimizer=optimizer)
    allocator = allocator_of(model)
    return allocator._factors().scores()
