"""What the processes do in tests of DDP and of torch.compile."""

from __future__ import annotations

from typing import Any

import torch
from distributed_runs import STEPS, Output, Trace, adapted, train, wrap
from torch import nn
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
