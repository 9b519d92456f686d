"""Leave a model and the random generators as they were before a block."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def left_as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Restore `model` and the generators of random numbers after the block, also after a failure.

    Restored are modules, hooks, modes, other attributes, buffers, gradients and which parameters
    learn. Values of parameters are not copied: the block has to leave them alone.

    Args:
        model: changed in place by the block.

    Raises:
        RuntimeError: the block has written to a parameter of the model.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(1))
        >>> with left_as_it_was(model):
        ...     model(torch.tensor([[1.0], [3.0]]))
        ...     model[0] = torch.nn.Identity()
        tensor([[-1.0000],
                [ 1.0000]], grad_fn=<NativeBatchNormBackward0>)
        >>> model[0].running_mean
        tensor([0.])
    """
    attributes = [(module, _copied(vars(module))) for module in model.modules()]
    buffers = [(each, each.detach().clone()) for each in model.buffers()]
    parameters = [(each, each.requires_grad, each.grad) for each in model.parameters()]
    versions = [each._version for each, _, _ in parameters]  # noqa: SLF001 - torch documents it
    try:
        with _same_random_numbers():
            yield
    finally:
        for module, kept in attributes:
            vars(module).clear()
            vars(module).update(kept)
        with torch.no_grad():
            for buffer, values in buffers:
                buffer.copy_(values)
        for parameter, learns, gradient in parameters:
            parameter.requires_grad_(learns)
            parameter.grad = gradient
    written = [
        name
        for (name, parameter), version in zip(model.named_parameters(), versions, strict=True)
        if parameter._version != version  # noqa: SLF001
    ]
    if written:
        raise RuntimeError(
            f"model: the training step wrote to the parameter {written[0]!r} and "
            f"{len(written) - 1} others; let it return a loss and change nothing"
        )


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return `attributes` with their containers copied, as the dictionaries of hooks are."""
    return {
        name: copy.copy(value) if isinstance(value, dict | list | set) else value
        for name, value in attributes.items()
    }


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Restore the state of torch's, Python's and NumPy's generators after the block."""
    state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(state)
        if numpy:
            numpy.random.set_state(numpy_state)
