"""Group tensors that can be one operand, and join them to one flat tensor."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor


def kind_of(tensor: Tensor) -> tuple[Any, ...]:
    """Return what the tensors of one flat tensor have in common."""
    return tensor.device, tensor.dtype


def shape_and_kind_of(tensor: Tensor) -> tuple[Any, ...]:
    """Return what the tensors of one stack have in common."""
    return tensor.shape, tensor.device, tensor.dtype


def places_by(key: Callable[[Any], Any], items: Iterable[Any]) -> list[list[int]]:
    """Return the places of the items with one `key`, group by group."""
    places: dict[Any, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        places[key(item)].append(index)
    return [*places.values()]


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return a new tensor with all entries of tensors of one kind."""
    flat: Tensor = torch._C._nn.flatten_dense_tensors([*tensors])  # noqa: SLF001 - as DDP
    return flat if len(tensors) > 1 else flat.clone()  # a single one is not copied


def write_parts(targets: Sequence[Tensor], flat: Tensor) -> None:
    """Copy the entries of `flat` into the tensors that were joined to it."""
    parts = torch._C._nn.unflatten_dense_tensors(flat, [*targets])  # noqa: SLF001 - as DDP
    torch._foreach_copy_([*targets], parts)
