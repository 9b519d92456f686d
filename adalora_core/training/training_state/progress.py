"""Describe the progress of a run as JSON values, and restore an allocator from them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

from adalora_core.allocation import AllocationReport
from adalora_core.budget import Phase
from adalora_core.sharding import local_part

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adalora_core.adapter_spec import AdapterSpec
    from adalora_core.allocation import RankAllocator
    from adalora_core.training.adapter import Adapter


def allocator_of(adapter: Adapter) -> RankAllocator:
    """Return the allocator of an adapter that is being trained.

    Raises:
        ValueError: the adapter is frozen.
    """
    if adapter.allocator is None:
        raise ValueError(
            f"training state: the adapter {adapter.name!r} is frozen and has no allocator; load "
            "it with is_trainable=True"
        )
    return adapter.allocator


def progress(adapter: Adapter) -> dict[str, Any]:
    """Return the progress of a run, without averages and factors, as JSON values.

    `mask` and `ranks` have an entry per module: which rows are kept, and how many were kept after
    each allocation. Both are empty before the first allocation.
    """
    allocator = allocator_of(adapter)
    has_allocated = allocator.mask is not None
    return {
        "run": fingerprint(adapter.spec, adapter.layers),
        "step": allocator.last_step,
        "target_reached": allocator.target_reached,
        "skipped_entries": allocator.statistics.skipped_entries,
        "positions": adapter.positions,
        "history": [
            [each.step, each.phase.value, each.budget, each.allocated, each.skipped_entries]
            for each in allocator.history
        ],
        "mask": allocator.kept() if has_allocated else {},
        "ranks": allocator.rank_history() if has_allocated else {},
    }


def restore_progress(allocator: RankAllocator, values: dict[str, Any]) -> None:
    """Restore `allocator` from the result of `progress`."""
    allocator.last_step = values["step"]
    allocator.target_reached = values["target_reached"]
    allocator.statistics.skipped_entries = values["skipped_entries"]
    allocator.history = [
        AllocationReport(step, Phase(phase), budget, allocated, skipped)
        for step, phase, budget, allocated, skipped in values["history"]
    ]
    paths = [matrix.path for matrix in allocator.matrices]
    device = local_part(allocator.parameters()[0]).device
    flags = [flag for path in paths for flag in values["mask"].get(path, ())]
    allocator.mask = (
        torch.tensor(flags, dtype=torch.bool, device=device) if values["mask"] else None
    )
    columns = [values["ranks"].get(path, ()) for path in paths]
    table = torch.tensor(columns, dtype=torch.int16, device=device)
    allocator.ranks_over_time.restore(table.T)


def fingerprint(spec: AdapterSpec, paths: Iterable[str]) -> str:
    """Return a hash of what must not change during a run: its numbers and its modules."""
    described = spec.numbers() | {"modules": sorted(paths)}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
