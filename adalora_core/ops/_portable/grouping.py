"""Join tensors that can be one operand to one flat tensor, and read its parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
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


def averages_of(
    averages: Sequence[Tensor] | Tensor, shapes: Sequence[torch.Size]
) -> Sequence[Tensor]:
    """Return the average of each parameter, as views of a flat tensor.

    Args:
        averages: one flat tensor for all parameters; a tensor for each is returned unchanged.
        shapes: shapes of the parameters.

    Raises:
        ValueError: the flat tensor has more or fewer entries than all parameters together.

    Example:
        >>> import torch
        >>> averages_of(torch.arange(3), [torch.Size([1, 2]), torch.Size([1, 1])])
        [tensor([[0, 1]]), tensor([[2]])]
    """
    if not isinstance(averages, torch.Tensor):
        return averages
    sizes = [shape.numel() for shape in shapes]
    if averages.shape != (sum(sizes),):
        raise ValueError(
            "update_importance: flat averages must have one entry per entry of the parameters, "
            f"[{sum(sizes)}], got {list(averages.shape)}"
        )
    parts = averages.split(sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
