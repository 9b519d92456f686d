"""Read the averages of all parameters, which may be one flat tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


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
