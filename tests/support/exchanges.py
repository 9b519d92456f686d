"""What the processes exchange, keep and compute, counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import peft
from adalora_runs import allocator_of, optimizer_of
from distributed_runs import SETTINGS, STEPS, Blocks, adapted, mine, prepare, train, wrap
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils.flop_counter import FlopCounterMode


def counted_collectives(call: Callable[[], object]) -> int:
    """Return how many collectives `call` makes."""
    with CommDebugMode() as counted:
        call()
    return int(counted.get_total_counts())


def count_collectives(_rank: int, kind: str, changes: dict[str, Any]) -> list[tuple[int, int]]:
    """Return for each step how many collectives forward and backward, and the allocation, made."""
    model, wrapped, optimizer = prepare(kind, partial(adapted, **changes))
    counts = []
    wrapped.train()
    for step in range(STEPS):
        with CommDebugMode() as training:
            wrapped(**mine(step)).loss.backward()
        optimizer.step()
        allocating = counted_collectives(partial(model.update_and_allocate, step))
        optimizer.zero_grad()
        counts.append((training.get_total_counts(), allocating))
    return counts


def count_collectives_of_lora(_rank: int) -> list[int]:
    """Return for each step how many collectives PEFT's plain LoRA makes under DDP."""
    config = peft.LoraConfig(r=SETTINGS["init_r"], target_modules=SETTINGS["target_modules"])
    model = peft.get_peft_model(Blocks(), config)
    wrapped = wrap(model, "ddp")
    optimizer = optimizer_of(model)
    counts = []
    for step in range(STEPS):
        with CommDebugMode() as training:
            wrapped(**mine(step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        counts.append(training.get_total_counts())
    return counts


def averages_and_penalty_flops(_rank: int, kind: str) -> tuple[int, int]:
    """Return how many numbers the averages of this process have, and what its penalty computes."""
    model, wrapped, optimizer = prepare(kind)
    with FlopCounterMode(display=False) as counter:
        model.orthogonality_penalty().backward()
    train(wrapped, model, range(3), optimizer=optimizer)
    statistics = allocator_of(model).statistics
    averages = [*statistics.smoothed, *statistics.uncertainty]
    return sum(each.numel() for each in averages), counter.get_total_flops()
