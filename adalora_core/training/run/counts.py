"""Read numbers from a device without a wait."""

from __future__ import annotations

import torch


class LaterCount:
    """A number that may still be on its way from a device.

    Args:
        number: an int, or a tensor without dimensions.
    """

    def __init__(self, number: int | torch.Tensor) -> None:
        self._arrived: torch.Event | None = None
        self._number = number
        if isinstance(number, torch.Tensor) and _offers_events(number.device):
            self._number = torch.empty((), dtype=number.dtype, pin_memory=True)
            self._number.copy_(number, non_blocking=True)
            self._arrived = torch.accelerator.current_stream(number.device).record_event()

    def is_known(self) -> bool:
        """Return whether `int(self)` need not wait."""
        return self._arrived is None or self._arrived.query()

    def __int__(self) -> int:
        if self._arrived is not None:
            self._arrived.synchronize()
        return int(self._number)


def _offers_events(device: torch.device) -> bool:
    accelerator = torch.accelerator.current_accelerator()
    return accelerator is not None and accelerator.type == device.type
