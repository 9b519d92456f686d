"""What the processes do in tests of automatic allocation, criteria, DDP and findings of runs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from adalora_runs import allocator_of, optimizer_of
from distributed_runs import (
    STEPS,
    Output,
    Trace,
    adapted,
    batch,
    mine,
    prepare,
    train,
    whole_parameters,
    wrap,
)
from run_loops import codes
from torch import distributed, nn
from torch.utils.checkpoint import checkpoint

from adalora_core import allocate_on_step
from adalora_core.floor.errors import RankDisagreementError, RunError

# --- runs that nobody allocates -------------------------------------------------------------------


LATE = {"tinit": 4, "tfinal": 10}
"""The first allocation comes after the decision, at step 2."""


def run_beside_the_hook(_rank: int, kind: str, library: str) -> tuple[Any, Any, list[str], int]:
    """Return what a run without a call ends with, one with the hook, findings and messages."""
    messages: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = messages.append  # type: ignore[method-assign]
    logging.getLogger("adalora_core").addHandler(handler)
    results = []

    def run() -> None:
        for with_hook in (False, True):
            model = adapted(library=library, **LATE)
            wrapped = wrap(model, kind)
            if kind == "compiled":
                wrapped = torch.compile(model, backend="eager")
            optimizer = optimizer_of(model)
            if with_hook:
                allocate_on_step(optimizer, model)
            _train(wrapped, optimizer)
            allocator = allocator_of(model)
            results.append((allocator.mask.tolist(), allocator.budget, whole_parameters(model)))

    found = codes(run)
    return (*results, found, len(messages))


def run_whose_processes_differ(rank: int) -> str:
    """Let one process train with an optimizer of another class."""
    model = adapted(**LATE)
    kind = torch.optim.SGD if rank else torch.optim.AdamW
    try:
        _train(model, kind([each for each in model.parameters() if each.requires_grad], lr=1e-2))
    except RankDisagreementError as error:
        return str(error)
    return ""


def _train(wrapped: Any, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> None:
    wrapped.train()
    for step in range(steps):
        wrapped(**mine(step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


# --- importance criteria --------------------------------------------------------------------------


def energy_and_gradient(path: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Score a triplet by its update of the weight times the sizes of its gradients."""
    del path
    A, E, B = (tensors[f"lora_{each}"] for each in "AEB")
    energy = E.flatten().abs() * A.norm(dim=1) * B.norm(dim=0)
    A, E, B = (tensors[f"lora_{each}.grad"] for each in "AEB")
    return energy * E.flatten().abs() * A.norm(dim=1) * B.norm(dim=0)


def by_process(path: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Score triplets in another order on each process."""
    del path
    order = torch.arange(float(len(tensors["lora_E"])))
    return -order if distributed.get_rank() else order


def scores_of(criterion: Any, kind: str, stop: int) -> torch.Tensor:
    """Return the scores after `stop` steps."""
    model, wrapped, optimizer = prepare(kind, partial(adapted, importance_criterion=criterion))
    train(wrapped, model, range(stop - 1), optimizer=optimizer)
    wrapped.train()
    wrapped(**mine(stop - 1)).loss.backward()
    optimizer.step()
    return _scores_after(model, stop - 1)


def scores_in_process(_rank: int, criterion: Any, kind: str, stop: int) -> torch.Tensor:
    """Return `scores_of`, in one process of several."""
    return scores_of(criterion, kind, stop)


def _scores_after(model: Any, step: int) -> torch.Tensor:
    model.update_and_allocate(step)
    allocator = allocator_of(model)
    return allocator.criterion.scores(allocator._factors())


def train_by_process(_rank: int, kind: str) -> str:
    """Train with scores that differ between processes; return the error, or the kept set."""
    model, wrapped, optimizer = prepare(kind, partial(adapted, importance_criterion=by_process))
    try:
        train(wrapped, model, range(STEPS), optimizer=optimizer)
    except RankDisagreementError as error:
        return str(error)
    return str(allocator_of(model).kept())


# --- DDP and torch.compile ------------------------------------------------------------------------


class Checkpointed(nn.Module):
    """`Blocks`, its blocks recomputed in the backward pass."""

    def __init__(self, blocks: Any, *, reentrant: bool) -> None:
        super().__init__()
        self.blocks = blocks
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Output:
        blocks = self.blocks
        hidden = x.requires_grad_()  # what a reentrant checkpoint needs
        for block in (blocks.first, blocks.second):
            hidden = checkpoint(block, hidden, use_reentrant=self.reentrant)
        logits = blocks.head(hidden)
        return Output(nn.functional.cross_entropy(logits, labels), logits)


class LeavesOneOut(nn.Module):
    """`Blocks` without its second block."""

    def __init__(self, blocks: Any) -> None:
        super().__init__()
        self.blocks = blocks
        self.short = nn.Linear(7, 3, dtype=torch.float64).requires_grad_(False)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Output:
        logits = self.short(self.blocks.first(x))
        return Output(nn.functional.cross_entropy(logits, labels), logits)


def run_checkpointed(_rank: int, reentrant: bool, options: dict[str, Any]) -> Trace | str:
    """Train with recomputed blocks; return the refusal of DDP if it refuses."""
    model = adapted()
    model.base_model.model = Checkpointed(model.base_model.model, reentrant=reentrant)
    try:
        return train(wrap(model, "ddp", **options), model, range(STEPS))
    except RuntimeError as error:
        return str(error)


def run_leaving_one_out(_rank: int, kind: str, options: dict[str, Any]) -> Trace:
    """Train a model that does not use one of its adapted layers."""
    torch.manual_seed(5)
    model = adapted()
    model.base_model.model = LeavesOneOut(model.base_model.model)
    return train(wrap(model, kind, **options), model, range(STEPS))


def run_with_options(_rank: int, options: dict[str, Any]) -> Trace:
    """Train under DDP with `options`."""
    model = adapted()
    return train(wrap(model, "ddp", **options), model, range(STEPS))


def run_compiled(_rank: int, kind: str) -> tuple[Trace, int, int]:
    """Train the compiled model; return also how often it was compiled at first, and in all."""
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    model = adapted()
    # DDP cuts the graph where its buckets end, to overlap them with the backward pass.
    compiled = torch.compile(
        wrap(model, kind), backend=counter, fullgraph=kind != "ddp", dynamic=False
    )
    counts: list[int] = []

    def backward(_step: int, given: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = compiled(**given).loss
        loss.backward()
        counts.append(counter.frame_count)
        return loss

    trace = train(compiled, model, range(STEPS), backward=backward)
    return trace, counts[0], counts[-1]


# --- findings -------------------------------------------------------------------------------------


def findings_of_a_right_run(rank: int, kind: str, folder: Path) -> list[str]:
    """Train, save a checkpoint in between and the result at the end."""
    model = adapted()
    wrapped = wrap(model, kind)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, fused=kind == "ddp")

    def run() -> None:
        train(wrapped, model, range(10), optimizer=optimizer)
        model.save_pretrained(folder, is_main_process=rank == 0, save_training_state=True)
        train(wrapped, model, range(10, STEPS), optimizer=optimizer)
        model.save_pretrained(folder, is_main_process=rank == 0)

    return codes(run)


def findings_of_a_forgotten_call(rank: int, kind: str, folder: Path) -> list[str]:
    """Train without an allocation, and save in the middle of another run."""
    model = adapted()
    wrapped = wrap(model, kind)
    optimizer = optimizer_of(model)
    world = distributed.get_world_size()

    def run() -> None:
        for step in range(10):
            wrapped.train()(**batch(step, rank, world, torch.float64)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        other = adapted()
        train(wrap(other, kind), other, range(6))
        other.save_pretrained(folder, is_main_process=rank == 0)

    return codes(run)


def findings_of_a_foreign_optimizer(rank: int, kind: str) -> list[str]:
    """Train with the optimizer of a model that was copied before it was wrapped."""
    model = adapted()
    optimizer = optimizer_of(copy.deepcopy(model))
    wrapped = wrap(model, kind)
    world = distributed.get_world_size()

    def run() -> None:
        for step in range(3):
            wrapped.train()(**batch(step, rank, world, torch.float64)).loss.backward()
            optimizer.step()
            model.update_and_allocate(step)
            model.zero_grad()

    return codes(run)


def error_of_a_merged_run(_rank: int, kind: str) -> str:
    """Return the error of a backward pass while the adapter is merged."""
    model: Any = adapted(library="attached")
    wrapped = wrap(model, kind)
    model.merge_adapter()
    try:
        wrapped.train()(**batch(0, 0, 1, torch.float64)).loss.backward()
    except RunError as error:
        return str(error)
    return ""
