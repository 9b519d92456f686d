"""Cut dropped triplets out of parameters, optimizer state and state dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import torch

from adalora_core.floor.rank_pattern import RankPattern
from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES
from adalora_core.sharding import are_sharded
from adalora_core.training.adapter import Adapter
from adalora_core.training.parallelism import refuse_compacting


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """How much a compaction freed.

    Attributes:
        parameters_before, parameters_after: entries of A, E and B over all matrices.
        state_before, state_after: entries of the optimizer's state for these.
    """

    parameters_before: int
    parameters_after: int
    state_before: int
    state_after: int


class _Cut(NamedTuple):
    """One parameter, the axis of its triplets, and the rows to keep."""

    parameter: torch.nn.Parameter
    axis: int
    rows: torch.Tensor

    def apply(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.index_select(self.axis, self.rows.to(tensor.device))


def compact(
    model: torch.nn.Module, adapters: Sequence[Adapter], optimizer: torch.optim.Optimizer
) -> CompactionReport:
    """Cut dropped triplets out of `model` and `optimizer`; see `AdaLoraModel.compact`."""
    if not adapters:
        raise ValueError("compact: no active adapter is trainable; load it with is_trainable=True")
    refuse_compacting(model, adapters)
    kept = [_kept(adapter) for adapter in adapters]
    pairs = list(zip(adapters, kept, strict=True))
    cuts = [cut for adapter, flags in pairs for cut in _cuts(adapter, flags)]
    state = _state_tensors(optimizer, cuts)
    before = _entries(cuts, state)
    for cut in cuts:
        parameter = cut.parameter
        gradient = parameter.grad
        parameter.grad = None
        # In place: the optimizer and other holders of the parameter keep the same object.
        parameter.data = cut.apply(parameter.data)
        parameter.grad = None if gradient is None else cut.apply(gradient)
    for cut, store, key in state:
        store[key] = cut.apply(store[key])
    for adapter, flags in pairs:
        for path, of_module in flags.items():
            adapter.positions[path] = [*compress(adapter.positions[path], of_module)]
        if adapter.allocator is not None:
            adapter.allocator.keep_all()
    after = _entries(cuts, state)
    return CompactionReport(before[0], after[0], before[1], after[1])


def _kept(adapter: Adapter) -> dict[str, list[bool]]:
    allocator = adapter.allocator
    if allocator is None or not allocator.target_reached:
        step = None if allocator is None else allocator.schedule.final_start
        raise ValueError(
            f"compact: the kept set of the adapter {adapter.name!r} is not final yet; call "
            f"compact after update_and_allocate({step}), the first final step, or finalize()"
        )
    return allocator.kept()


def _cuts(adapter: Adapter, kept: dict[str, list[bool]]) -> Iterator[_Cut]:
    for path, layer in adapter.layers.items():
        rows = torch.tensor([row for row, flag in enumerate(kept[path]) if flag], dtype=torch.long)
        for factor, axis in TRIPLET_AXES.items():
            parameter = getattr(layer, factor)[adapter.name]
            yield _Cut(parameter, axis, rows.to(parameter.device))


def _state_tensors(
    optimizer: torch.optim.Optimizer, cuts: list[_Cut]
) -> list[tuple[_Cut, dict[str, Any], str]]:
    """Return where the optimizer keeps tensors of a parameter's shape; refuse other state."""
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    places = []
    for cut in cuts:
        if id(cut.parameter) not in held:
            raise ValueError(
                "compact: the optimizer does not hold the adapter's parameters; pass the optimizer "
                "that trains it"
            )
        store = optimizer.state.get(cut.parameter, {})
        for key, value in store.items():
            is_tensor = isinstance(value, torch.Tensor)
            if not value.dim() if is_tensor else isinstance(value, bool | int | float | None):
                continue  # a scalar
            if not is_tensor or value.shape != cut.parameter.shape:
                shape = list(value.shape) if is_tensor else ""
                raise ValueError(
                    f"compact: {type(optimizer).__name__} keeps {key!r} ({type(value).__name__} "
                    f"{shape}) for a parameter of shape {list(cut.parameter.shape)}; only state of "
                    "the parameter's own shape can be cut with it, as AdamW and SGD keep it. "
                    "Nothing was changed"
                )
            places.append((cut, store, key))
    return places


def _entries(cuts: list[_Cut], state: list[tuple[_Cut, dict[str, Any], str]]) -> tuple[int, int]:
    parameters = sum(cut.parameter.numel() for cut in cuts)
    return parameters, sum(store[key].numel() for _, store, key in state)


def keep_rows(factors: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """Return A, E and B of the triplets `rows`."""
    index = torch.tensor(rows, dtype=torch.long, device=factors["lora_A"].device)
    return {n: each.index_select(TRIPLET_AXES[n], index) for n, each in factors.items()}


def cut_state(
    adapter: Adapter, pattern: RankPattern | None, state: dict[str, torch.Tensor], prefix: str
) -> dict[str, torch.Tensor]:
    """Cut the triplets that `pattern` drops out of `state`, whose names have `prefix`.

    Tensors that are divided over processes stay whole, as parameters of the same shapes read them.
    """
    for path in adapter.layers if pattern is not None else ():
        keys = {factor: f"{prefix}{path}.{factor}.{adapter.name}" for factor in FACTORS}
        factors = {factor: state[key] for factor, key in keys.items()}
        if are_sharded(factors.values()):
            continue
        cut = keep_rows(factors, adapter.rows_in(pattern, path))
        state |= {keys[factor]: values for factor, values in cut.items()}
    return state
