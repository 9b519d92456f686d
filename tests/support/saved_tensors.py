"""Count what a forward pass keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def kept_bytes(model: nn.Module, forward: Callable[[], Any]) -> int:
    """Return the bytes of all tensors that `forward` saves, shared memory counted once.

    The parameters and buffers of `model` are left out.
    """
    kept: dict[int, int] = {}
    # Held, so that no later tensor gets the memory, and the address, of one that is freed.
    tensors: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        tensors.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    del output
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    return sum(size for place, size in kept.items() if place not in own)
