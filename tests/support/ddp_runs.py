"""What the processes do in tests of DDP and of torch.compile."""

from __future__ import annotations

from typing import Any

import torch
from distributed_checks import allocator_of
from distributed_runs import STEPS, Output, Trace, adapted, batch, optimizer_of, whole_parameters
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint


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


def run_checkpointed(rank: int, reentrant: bool, options: dict[str, Any]) -> Trace | str:
    """Train with recomputed blocks; return what DDP says if it refuses."""
    model = adapted()
    model.base_model.model = Checkpointed(model.base_model.model, reentrant=reentrant)
    try:
        return _train(rank, model, options)
    except RuntimeError as error:
        return str(error)


def run_leaving_one_out(rank: int, options: dict[str, Any]) -> Trace:
    """Train a model that does not use one of its adapted layers."""
    torch.manual_seed(5)
    model = adapted()
    model.base_model.model = LeavesOneOut(model.base_model.model)
    return _train(rank, model, options)


def run_with_options(rank: int, options: dict[str, Any]) -> Trace:
    """Train under DDP with `options`."""
    return _train(rank, adapted(), options)


def run_compiled(rank: int, options: dict[str, Any]) -> tuple[Trace, int, int]:
    """Train the compiled model; return also how often it was compiled, and how often first."""
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    model = adapted()
    is_ddp = distributed.is_initialized()
    wrapped = DistributedDataParallel(model, **options) if is_ddp else model
    # DDP cuts the graph where its buckets end, to overlap them with the backward pass.
    compiled = torch.compile(wrapped, backend=counter, fullgraph=not is_ddp, dynamic=False)
    after_first: list[int] = []
    trace = _train(
        rank, model, {}, compiled, on_step=lambda: after_first.append(counter.frame_count)
    )
    return trace, after_first[0], after_first[-1]


def _train(
    rank: int, model: Any, options: dict[str, Any], wrapped: Any = None, on_step: Any = None
) -> Trace:
    is_ddp = distributed.is_initialized()
    world = distributed.get_world_size() if is_ddp else 1
    if wrapped is None:
        wrapped = DistributedDataParallel(model, **options) if is_ddp else model
    optimizer = optimizer_of(model)
    trace = Trace()
    wrapped.train()
    for step in range(STEPS):
        loss = wrapped(**batch(step, rank, world, torch.float64)).loss
        loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        mask = allocator_of(model).mask
        trace.masks.append(None if mask is None else mask.tolist())
        trace.budgets.append(allocator_of(model).budget)
        trace.losses.append(loss.item())
        if on_step is not None:
            on_step()
    trace.parameters = whole_parameters(model)
    return trace
