"""Time the watching of a run alone, in comparison with a training step of MiniLM.

    OMP_NUM_THREADS=2 python benchmarks/bench_run_findings.py

What is timed are the calls that a right run makes per step: the hook of torch's optimizers, what is
looked at before and after an allocation, and the check of a forward. The number of their operations
is counted by a profiler of Python's calls and by torch's dispatcher.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from bench_training_step import ADAPTER, SCHEDULE, minilm, training_step
from torch.utils._python_dispatch import TorchDispatchMode

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.training.run.optimizers import _after_step

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = (8, 16)
"""The smallest batch of the training-step benchmark, where the watching costs most."""
ROUNDS = 15
CALLS = 200
BEFORE_TAKEN_OVER = 4
"""Rounds after which the package has seen for certain that nobody calls."""


class CountOperations(TorchDispatchMode):
    """Counts the operations of torch."""

    count = 0

    def __torch_dispatch__(self, operation: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return operation(*args, **(kwargs or {}))


def watching(model: Any, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return a function that does what is done per step beside training and allocating."""
    (adapter,) = model.base_model.trained_adapters()
    done = adapter.allocator.step(adapter.allocator.last_step + 1)
    values = adapter.allocator.parameters()[1].detach()

    def watch() -> None:
        values.add_(1e-6)  # as a step does
        adapter.run.see_forward(adapter.layers)
        _after_step(optimizer)
        adapter.follow_config()
        adapter.run.see_allocation(done, done.step - 1, penalties=1)

    return watch


def calls_of(function: Callable[[], None]) -> int:
    """Return how many functions of Python and C a call makes."""
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(profile)
    function()
    sys.setprofile(None)
    return count


def times_of(function: Callable[[], None], calls: int) -> list[float]:
    """Return the seconds of a call in each of several rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        seconds.append((time.perf_counter() - start) / calls)
    return seconds


def allocating(*, by_itself: bool) -> Callable[[], None]:
    """Return a function that does what follows a step, with or without a call of the allocator."""
    model = get_peft_model(minilm(), AdaLoraConfig(**SCHEDULE, **ADAPTER))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad])
    tokens = torch.randint(0, 30000, BATCH)
    (model(tokens).last_hidden_state.square().mean() + model.orthogonality_penalty()).backward()
    (adapter,) = model.base_model.trained_adapters()
    values = adapter.allocator.parameters()[1].detach()
    steps = itertools.count()

    def follow() -> None:
        values.add_(1e-6)  # as a step does
        _after_step(optimizer)
        if not by_itself:
            model.update_and_allocate(next(steps))

    return follow


def main() -> None:
    """Print the times of a step, of its watching, and of an allocation that nobody calls for."""
    model = get_peft_model(minilm(), AdaLoraConfig(**SCHEDULE, **ADAPTER))
    step = training_step(model, BATCH, model.update_and_allocate)
    for _ in range(3):
        step()
    steps = times_of(step, 1)
    # The gradients of a step, which the watching looks at.
    tokens = torch.randint(0, 30000, BATCH)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad])
    (model(tokens).last_hidden_state.square().mean() + model.orthogonality_penalty()).backward()
    watch = watching(model, optimizer)
    watched = times_of(watch, CALLS)
    with CountOperations() as operations:
        watch()
    of_step, of_watching = statistics.median(steps), statistics.median(watched)
    print(f"training step of MiniLM, batch {BATCH[0]} x {BATCH[1]}: {1e3 * of_step:.1f} ms")
    print(f"watching alone: {1e6 * of_watching:.0f} us, {of_watching / of_step:.3%} of the step")
    print(f"per step: {calls_of(watch)} calls, {operations.count} operations of torch")
    called, by_itself = allocating(by_itself=False), allocating(by_itself=True)
    pairs = [(times_of(called, 1), times_of(by_itself, 1)) for _ in range(BEFORE_TAKEN_OVER)]
    pairs = [(times_of(called, 1), times_of(by_itself, 1)) for _ in range(ROUNDS)]
    of_call, of_none = (
        statistics.median(map(statistics.median, each)) for each in zip(*pairs, strict=True)
    )
    more = (of_none - of_call) / of_step
    print(f"allocation, called for: {1e6 * of_call:.0f} us, by itself: {1e6 * of_none:.0f} us")
    print(f"by itself: {more:+.3%} of the step")


if __name__ == "__main__":
    main()
