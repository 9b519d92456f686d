"""Read numbers from a device without a wait."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch

CERTAIN = 3
"""Times until what may happen once is a fault."""

MISSED_STEPS = 30
"""Most steps without an allocation, or without a change, before it is reported."""


class LaterCount:
    """A number that may still be on its way from a device.

    Args:
        number: an int, or a tensor without dimensions.
    """

    def __init__(self, number: int | torch.Tensor) -> None:
        self._arrived: torch.Event | None = None
        self._number = number
        if isinstance(number, torch.Tensor) and not number.is_cpu:
            # Not every kind of device has pinned memory, streams and events.
            with contextlib.suppress(RuntimeError, ValueError):
                copy = torch.empty((), dtype=number.dtype, pin_memory=True)
                copy.copy_(number, non_blocking=True)
                stream = torch.accelerator.current_stream(number.device)
                self._arrived, self._number = stream.record_event(), copy

    def is_known(self) -> bool:
        """Return whether `int(self)` need not wait."""
        return self._arrived is None or self._arrived.query()

    def __int__(self) -> int:
        if self._arrived is not None and not self._arrived.query():
            self._arrived.synchronize()
        return int(self._number)


class Call(NamedTuple):
    """What was seen at one call of the allocator; the last three may still be on a device.

    Attributes:
        step: the step that was given.
        stepped: whether the optimizer made a step before the call; None if only a device knows.
        is_extra: whether there was no step since the last call, and gradients nevertheless.
        others: steps since the last call of optimizers that do not hold all factors.
        entries: how many entries of the gradients are not finite.
        nonzero: how many gradients of E are not zero, None where it was not looked at.
        changed: whether E has changed since the call before, None where it was not looked at.
    """

    step: int
    stepped: bool | None
    is_extra: bool
    others: int
    entries: LaterCount
    nonzero: LaterCount | None
    changed: LaterCount | None

    @property
    def is_known(self) -> bool:
        """Whether no number is on its way."""
        numbers = (self.entries, self.nonzero, self.changed)
        return all(each is None or each.is_known() for each in numbers)
