"""Numbers that are still on their way from a device, of any kind that has events."""

from __future__ import annotations

import pytest
import torch

from adalora_core.training.run.counts import LaterCount


class Events:
    """The stream of a device, and the one event that it records."""

    def __init__(self) -> None:
        self.has_arrived = False
        self.waits = 0

    def record_event(self) -> Events:
        return self

    def query(self) -> bool:
        return self.has_arrived

    def synchronize(self) -> None:
        self.waits += 1


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """Tensors are on an accelerator: the CPU, which has neither events nor pinned memory."""
    stream, empty = Events(), torch.empty

    def made(*size: int, pin_memory: bool, **rest: torch.dtype) -> torch.Tensor:
        assert pin_memory  # else the copy waits
        return empty(*size, **rest)  # type: ignore[call-overload] # of any dtype

    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda _device: stream)
    monkeypatch.setattr(torch, "empty", made)
    return stream


def test_a_number_of_any_accelerator_is_read_without_a_wait(events: Events) -> None:
    number = torch.tensor(7)
    count = LaterCount(number)
    number.zero_()  # the next step writes to the same memory
    assert not count.is_known()
    events.has_arrived = True
    assert count.is_known()
    assert (int(count), events.waits) == (7, 1)


def test_a_number_of_a_device_without_events_is_read_at_once() -> None:
    assert LaterCount(torch.tensor(7)).is_known()
    assert (int(LaterCount(torch.tensor(7))), int(LaterCount(7))) == (7, 7)
