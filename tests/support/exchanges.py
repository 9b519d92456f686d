"""What the processes exchange, keep and compute, counted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import peft
import torch
from adalora_runs import allocator_of, optimizer_of
from distributed_runs import SETTINGS, STEPS, Blocks, adapted, mine, prepare, train, wrap
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Callable


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


class NotedSizes(TorchDispatchMode):
    """Notes how many numbers each process hands over to the collectives that follow."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, list[int]] = {}

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(each, DTensor) for each in types):
            return NotImplemented  # what it does with its local part comes here again
        if op.namespace == "c10d":
            # Output and input, where these differ; one list of both in other collectives.
            sent = args[1] if isinstance(args[0], torch.Tensor) else args[0][0]
            self.sizes.setdefault(op._schema.name, []).append(sent.numel())
        elif op.namespace == "_c10d_functional" and op._schema.name.endswith("all_reduce"):
            self.sizes.setdefault(op._schema.name, []).append(args[0].numel())
        return op(*args, **(kwargs or {}))


def exchanged_sizes(_rank: int, kind: str) -> dict[str, list[int]]:
    """Return the sizes of what is summed over processes at a step with allocation."""
    model, wrapped, optimizer = prepare(kind)
    wrapped.train()
    with NotedSizes() as noted:
        wrapped(**mine(4)).loss.backward()
        optimizer.step()
        model.update_and_allocate(4)
    return {name.removeprefix("c10d::"): each for name, each in noted.sizes.items()}


def gradient_exchanges(_rank: int, bucket_bytes: int) -> list[int]:
    """Return the sizes of the all-reduces of a step with DDP, after it has filled its buckets."""
    model = adapted()
    wrapped = wrap(model, "ddp", bucket_cap_mb=bucket_bytes / 2**20)
    optimizer = optimizer_of(model)
    train(wrapped, model, range(2), optimizer=optimizer)
    with NotedSizes() as noted:
        wrapped(**mine(2)).loss.backward()
    sizes: list[int] = noted.sizes["c10d::allreduce_"]
    return sizes


def averages_and_penalty_flops(_rank: int, kind: str) -> tuple[int, int]:
    """Return how many numbers the averages of this process have, and what its penalty computes."""
    model, wrapped, optimizer = prepare(kind)
    with FlopCounterMode(display=False) as counter:
        model.orthogonality_penalty().backward()
    train(wrapped, model, range(3), optimizer=optimizer)
    statistics = allocator_of(model).statistics
    averages = [*statistics.smoothed, *statistics.uncertainty]
    return sum(each.numel() for each in averages), counter.get_total_flops()
