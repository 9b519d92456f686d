"""Give a bridged tuner back to PEFT, with shapes and averages that PEFT can go on with."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from adalora_core.integrations.peft.adapters import remove_state, trained_adapters
from adalora_core.integrations.peft.allocator import hand_averages_over
from adalora_core.integrations.peft.layers import clear_initial_ranks
from adalora_core.nn.adapter_layer import TRIPLET_AXES
from adalora_core.nn.encoder_fast_path import return_to_fast_path

if TYPE_CHECKING:
    from adalora_core.training.adapter import Adapter

_compacted: weakref.WeakKeyDictionary[Any, weakref.ref[torch.optim.Optimizer]] = (
    weakref.WeakKeyDictionary()
)


def remember_optimizer(tuner: Any, optimizer: torch.optim.Optimizer) -> None:
    """Remember the optimizer whose state was cut together with the adapter of `tuner`."""
    _compacted[tuner] = weakref.ref(optimizer)


def hand_back(tuner: Any) -> None:
    """Let PEFT's methods continue with `tuner`.

    PEFT masks rows by patterns of `init_r` entries, so that triplets which were cut out come back,
    as zeros, in the parameters and in the state of the optimizer that was cut with them.
    """
    adapters = trained_adapters(tuner)
    hand_averages_over(tuner, adapters)
    remove_state(tuner)
    clear_initial_ranks(tuner.model)
    return_to_fast_path(tuner.model)
    optimizer = _compacted.pop(tuner, lambda: None)()
    for adapter in adapters:
        _restore_rows(adapter, {} if optimizer is None else optimizer.state)


def _restore_rows(adapter: Adapter, states: Any) -> None:
    rank = adapter.spec.init_r
    for path, layer in adapter.layers.items():
        rows = torch.tensor(adapter.positions[path], dtype=torch.long)
        for factor, axis in TRIPLET_AXES.items() if len(rows) < rank else ():
            parameter = getattr(layer, factor)[adapter.name]
            state = states.get(parameter, {})
            for key, value in state.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    state[key] = _widened(value, axis, rows, rank)
            gradient, parameter.grad = parameter.grad, None
            # In place: the optimizer and other holders of the parameter keep the same object.
            parameter.data = _widened(parameter.data, axis, rows, rank)
            if gradient is not None:
                parameter.grad = _widened(gradient, axis, rows, rank)


def _widened(tensor: torch.Tensor, axis: int, rows: torch.Tensor, rank: int) -> torch.Tensor:
    """Return `tensor` with `rank` rows along `axis`: its own at `rows`, and zeros."""
    shape = list(tensor.shape)
    shape[axis] = rank
    return tensor.new_zeros(shape).index_copy_(axis, rows.to(tensor.device), tensor)
