"""Describe the progress of a run as JSON values, and restore an allocator from them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from adalora_core.allocation import AllocationReport
from adalora_core.budget import Phase

if TYPE_CHECKING:
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
    """Return the progress of a run, without tensors, as JSON values."""
    allocator = allocator_of(adapter)
    return {
        "adapter": fingerprint(adapter.spec, list(adapter.layers)),
        "step": allocator.last_step,
        "target_reached": allocator.target_reached,
        "skipped_entries": allocator.statistics.skipped_entries,
        "positions": adapter.positions,
        "history": [
            [each.step, each.phase.value, each.budget, each.allocated, each.skipped_entries]
            for each in allocator.history
        ],
    }


def restore_progress(allocator: RankAllocator, values: dict[str, Any]) -> None:
    """Restore `allocator` from the result of `progress`."""
    allocator.last_step = values["step"]
    allocator.target_reached = bool(values["target_reached"])
    allocator.statistics.skipped_entries = int(values["skipped_entries"])
    allocator.history = [
        AllocationReport(step, Phase(phase), budget, allocated, skipped)
        for step, phase, budget, allocated, skipped in values["history"]
    ]


def fingerprint(spec: AdapterSpec, paths: list[str]) -> str:
    """Return a hash of what must not change during a run: its numbers and its modules."""
    described = dataclasses.asdict(spec) | {"modules": sorted(paths)}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
