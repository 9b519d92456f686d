"""Cut triplets out of the tensors and modules of an adapter, or add some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES
from adalora_core.rank_pattern import pattern_positions
from adalora_core.sharding import are_sharded

if TYPE_CHECKING:
    from adalora_core.rank_pattern import RankPattern
    from adalora_core.training.adapter import Adapter

TENSOR_PREFIX = "base_model.model."
"""What PEFT puts before the path of a module."""


def keep_rows(factors: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """Return A, E and B of the triplets `rows`."""
    index = torch.tensor(rows, dtype=torch.long, device=factors["lora_A"].device)
    return {
        factor: values.index_select(TRIPLET_AXES[factor], index)
        for factor, values in factors.items()
    }


def cut_state(
    adapter: Adapter,
    pattern: RankPattern | None,
    state: dict[str, torch.Tensor],
    prefix: str = TENSOR_PREFIX,
) -> dict[str, torch.Tensor]:
    """Cut the triplets that `pattern` drops out of `state`, which has names of `state_dict()`.

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


def resize_to(adapter: Adapter, pattern: RankPattern) -> None:
    """Give every module the triplets of `pattern`; those that it does not have yet are zero.

    The parameters stay the same objects. The allocation starts anew if a module changes. A divided
    adapter keeps its triplets.
    """
    if are_sharded(adapter.factors()[0]):
        return
    positions = adapter.positions | pattern_positions(pattern, adapter.name)
    for path, rows in positions.items():
        before = adapter.positions[path]
        pairs = [(new, before.index(row)) for new, row in enumerate(rows) if row in before]
        for factor, axis in TRIPLET_AXES.items() if rows != before else ():
            parameter = getattr(adapter.layers[path], factor)[adapter.name]
            old, shape = parameter.data.movedim(axis, 0), list(parameter.shape)
            shape[axis] = len(rows)
            parameter.grad, parameter.data = None, old.new_zeros(shape)
            for new, row in pairs:
                parameter.data.movedim(axis, 0)[new] = old[row]
    if positions != adapter.positions:
        adapter.positions = positions
        if adapter.is_trainable:
            adapter.start_allocation()
