"""Check that all processes hold the same allocator state."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from adalora_core.errors import RankDisagreementError
from adalora_core.integrations.distributed.checkpoint import trained_adapters
from adalora_core.sharding import are_sharded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.distributed import ProcessGroup

    from adalora_core.training.adapter import Adapter


def check_agreement(model: Any, group: ProcessGroup | None = None) -> None:
    """Compare step, kept set and, where every process holds them whole, factors and averages.

    The processes exchange a few checksums once. Training needs no such check: equal gradients give
    equal kept sets. The check finds a process whose gradients differ, because of another data
    order, seed or version.

    Args:
        model: the adapted model, wrapped or not.
        group: the processes to compare; None means all.

    Raises:
        RankDisagreementError: some ranks differ; raised on every process, with ranks and values.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, get_peft_model
        >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
        >>> check_agreement(model)  # a single process agrees with itself
    """
    mine = {
        f"{what} of adapter {adapter.name!r}": checksum
        for adapter in trained_adapters(model, "check_agreement")
        for what, checksum in _checksums(adapter).items()
    }
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    found: list[dict[str, str]] = [{} for _ in range(distributed.get_world_size(group))]
    distributed.all_gather_object(found, mine, group=group)
    faults = []
    for what in mine:
        values = [each.get(what, "none") for each in found]
        # The value of most ranks; a tie goes to the lowest rank.
        most_common = max(values, key=values.count)
        if differing := [rank for rank, value in enumerate(values) if value != most_common]:
            faults.append(f"rank {', '.join(map(str, differing))}: {what}")
    if faults:
        raise RankDisagreementError(
            f"check_agreement: these of {len(found)} ranks differ from the others: "
            f"{'; '.join(faults)}. Data order, seeds, library versions and the steps that were "
            "skipped must be the same on every rank; resume from a checkpoint"
        )


def _checksums(adapter: Adapter) -> dict[str, str]:
    allocator = adapter.allocator
    if allocator is None:
        return {}
    mask = [] if allocator.mask is None else allocator.mask.tolist()
    history = [(each.step, each.budget) for each in allocator.history]
    state = {
        "step": _of_values([allocator.last_step, allocator.target_reached, history]),
        "kept set": _of_values(mask),
    }
    parameters = allocator.parameters()
    if not are_sharded(parameters):
        statistics = allocator.statistics
        state["averages"] = _of_tensors([*statistics.smoothed, *statistics.uncertainty])
        state["factors"] = _of_tensors(parameters)
    return state


def _of_values(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _of_tensors(tensors: Iterable[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        entries = tensor.detach().cpu().contiguous().flatten()
        digest.update(entries.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
