"""Numbers that are still on their way from a device, of any kind that has events."""

from __future__ import annotations

import pytest
import torch
from run_loops import has_a_loss_of_nan, run_of

from adalora_core import RunWarning
from adalora_core.training.run.watch import DeferredInt


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


class OnDevice(torch.Tensor):
    """A tensor that is not on the CPU."""

    is_cpu = False


def number_on_device() -> torch.Tensor:
    return torch.tensor(7).as_subclass(OnDevice)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """The device has events and pinned memory."""
    stream, empty = Events(), torch.empty

    def made(*size: int, pin_memory: bool, **rest: torch.dtype) -> torch.Tensor:
        assert pin_memory  # else the copy waits
        return empty(*size, **rest)  # type: ignore[call-overload] # of any dtype

    monkeypatch.setattr(torch.accelerator, "current_stream", lambda _device: stream)
    monkeypatch.setattr(torch, "empty", made)
    return stream


def test_a_number_of_any_device_with_events_is_read_without_a_wait(events: Events) -> None:
    number = number_on_device()
    count = DeferredInt(number)
    number.zero_()  # the next step writes to the same memory
    assert not count.is_known()
    assert (int(count), events.waits) == (7, 1)
    events.has_arrived = True
    assert count.is_known()
    assert (int(count), events.waits) == (7, 1)


@pytest.mark.parametrize("lacking", ["pinned memory", "a stream", "events"])
def test_a_number_of_a_device_without_events_is_read_at_once(
    lacking: str, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError(lacking) if lacking == "a stream" else RuntimeError(lacking)

    owner, name = {
        "pinned memory": (torch, "empty"),
        "a stream": (torch.accelerator, "current_stream"),
        "events": (events, "record_event"),
    }[lacking]
    monkeypatch.setattr(owner, name, fail)
    count = DeferredInt(number_on_device())
    assert count.is_known()
    assert (int(count), events.waits) == (7, 0)


@pytest.mark.parametrize("number", [7, torch.tensor(7)])
def test_a_number_of_the_cpu_is_known(number: int | torch.Tensor) -> None:
    assert DeferredInt(number).is_known()
    assert int(DeferredInt(number)) == 7


def test_numbers_that_arrive_late_are_judged_when_they_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU: no call waits, and a report does."""
    monkeypatch.setattr(DeferredInt, "is_known", lambda _: False)
    model, caught = run_of("adalora_core", has_a_loss_of_nan, 20)
    assert caught == []
    with pytest.warns(RunWarning, match=r"^ADA806: .* 3 steps in a row .* up to step 2"):
        report = model.run_report()
    assert report.nonfinite_steps == 20
