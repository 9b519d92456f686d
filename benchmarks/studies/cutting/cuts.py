"""Cut a trained LoRA to the bytes of a smaller one, by each way to choose the ranks."""

from __future__ import annotations

import copy
import tempfile
from typing import TYPE_CHECKING

from cut_plan import CHOICES, Cut

from adalora_core.training.shrinking import ShrunkAdapter, read_trained, shrink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from adalora_core.training.shrinking import TrainedAdapter

HALVINGS = 20
"""Of the interval in which the largest limit that fits is searched."""


def cut(adapter: TrainedAdapter, choice: str, budget: int) -> ShrunkAdapter:
    """Return the largest cut by a choice whose file has at most `budget` bytes.

    Raises:
        ValueError: nothing fits.
    """
    if choice in {"one", "bytes"}:
        return shrink(adapter, budget=budget, pad_ranks=choice == "one")
    largest = max(map(len, adapter.squares.values()))
    fitting, low, high = None, 0.0, 1.0
    for _ in range(HALVINGS):
        limit = (low + high) / 2
        by_energy = choice == "energy"
        found = shrink(adapter, **({"energy": limit} if by_energy else {"rank": limit * largest}))
        if found.file.size <= budget:
            fitting, low = found, limit
        else:
            high = limit
    if fitting is None:
        raise ValueError(f"expected a budget that leaves something, got {budget} bytes")
    return fitting


def measured_cuts(
    model: nn.Module, sizes: Sequence[int], measure: Callable[[nn.Module], float]
) -> tuple[int, list[Cut]]:
    """Return the bytes of a trained LoRA of PEFT, and what each cut of it gives.

    Each cut is written as `adalora shrink` writes it, and loaded by PEFT beside the whole adapter.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        adapter = read_trained(folder)
        for size in sizes:
            budget = adapter.file(dict.fromkeys(adapter.modules, size)).size
            for choice in CHOICES:
                shrunk = cut(adapter, choice, budget)
                shrunk.write(f"{folder}/{size}-{choice}")
                model.load_adapter(f"{folder}/{size}-{choice}", "cut")
                model.set_adapter("cut")
                loss = merged_loss(model, measure)
                model.set_adapter("default")
                model.delete_adapter("cut")
                kept, ranks = round(shrunk.energy(), 5), [*shrunk.ranks.values()]
                found.append(Cut(size, choice, loss, shrunk.file.size, kept, ranks))
    return adapter.bytes, found


def merged_loss(model: nn.Module, measure: Callable[[nn.Module], float]) -> float:
    """Return the loss with the active adapter in the weights, which takes half the time."""
    return round(measure(copy.deepcopy(model).merge_and_unload()), 5)
