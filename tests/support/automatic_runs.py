"""What the processes do in tests of runs that nobody allocates."""

from __future__ import annotations

import logging
from typing import Any

import torch
from adalora_runs import allocator_of, optimizer_of
from distributed_runs import STEPS, adapted, mine, whole_parameters, wrap
from run_loops import codes

from adalora_core import allocate_on_step
from adalora_core.floor.errors import RankDisagreementError

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
