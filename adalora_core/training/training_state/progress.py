"""Describe the progress of a run as JSON values, and restore an allocator from them."""

from __future__ import annotations

import hashlib
import json
import warnings
from typing import TYPE_CHECKING, Any

import torch

from adalora_core.adapter_spec import (
    CRITERIA,
    SENSITIVITY,
    AdapterSpec,
    criterion_name,
    names_one_function,
)
from adalora_core.allocation import AllocationReport
from adalora_core.budget import Phase
from adalora_core.errors import CheckpointError
from adalora_core.sharding import local_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from adalora_core.allocation import RankAllocator
    from adalora_core.training.adapter import Adapter


CRITERION = "importance_criterion"
"""The entry of the progress that names the criterion, if it is not the default."""


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
    criterion = criterion_name(adapter.spec.importance_criterion)
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
        # Left out of the usual state, which releases without criteria can read.
        **({} if criterion == SENSITIVITY else {CRITERION: criterion}),
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


def saved_criterion(values: Mapping[str, Any]) -> str:
    """Return the name of the criterion of a saved run."""
    return str(values.get(CRITERION, SENSITIVITY))


def refuse_other_criterion(values: Mapping[str, Any], adapter: str, config: Any) -> None:
    """Refuse to continue a run with scores of another kind.

    A function is compared by its name. Where the name is not of one function alone, warn.

    Args:
        values: the progress of the saved run.
        adapter: name of the adapter that continues.
        config: its configuration, of this package or of PEFT.

    Raises:
        CheckpointError: the saved run had another criterion.
    """
    saved = saved_criterion(values)
    given = criterion_name(AdapterSpec.of(config).importance_criterion)
    if saved != given:
        wanted = "the same function" if saved not in CRITERIA else repr(saved)
        raise CheckpointError(
            f"training state: the run was saved with the importance_criterion {saved!r}, and the "
            f"adapter {adapter!r} has {given!r}, whose scores do not continue it; pass a config "
            f"that has {wanted} as importance_criterion (AdaLoraConfig.from_pretrained reads the "
            "saved one), or delete the training state to start a new allocation. Nothing was "
            "changed"
        )
    if not names_one_function(given):
        warnings.warn(
            f"training state: the importance_criterion of the adapter {adapter!r} is {given!r}, a "
            "name that many functions have, so the run may go on with another score than it was "
            "saved with; compare the function, or give it a name at the top of a module",
            stacklevel=3,
        )
