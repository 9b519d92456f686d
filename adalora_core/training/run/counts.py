"""Read numbers from a device without a wait."""

from __future__ import annotations

import contextlib

import torch


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
