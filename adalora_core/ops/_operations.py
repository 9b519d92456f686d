"""Ask whether something records torch's operations, and join tensors to one operand of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _get_tracing_state, _len_torch_dispatch_stack
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.compiler import is_compiling


def is_watched() -> bool:
    """Return whether a call has to consist of torch's operations, with nothing written in place.

    torch.compile, torch.func, a dispatch mode (make_fx, selective checkpointing), torch.jit.trace
    and forward-mode AD see neither a call of the core nor a write into what they keep.
    """
    return (
        is_compiling()  # first, since a compiler refuses the other questions
        or _are_functorch_transforms_active()
        or _len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0  # noqa: SLF001 - torch has no public way
        or _get_tracing_state() is not None
    )


def is_recorded(grad: Tensor) -> bool:
    """Return the same for a backward pass that was given `grad`, which may be a batch of them."""
    return torch.is_grad_enabled() or is_watched() or is_legacy_batchedtensor(grad)


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
