"""See whether factors change from one call of the allocator to the next, without a wait."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import torch

from adalora_core.sharding import local_part
from adalora_core.training.run.optimizers import rate_of

if TYPE_CHECKING:
    from adalora_core.allocation import RankAllocator

MOST_UNCHANGED = 50
"""Percentage of the entries of a factor that may be as they were in the middle of a run."""

CERTAIN = 3
"""How often an event must happen before it counts as a fault."""

MISSED_STEPS = 30
"""Most steps without an allocation, or without a change, before it is reported."""


class Changes:
    """Compares E with what it was after the call before, and A in low precision with the start.

    E of all matrices is compared: some may be frozen, or have no gradient. As long as E changes,
    a hundredth of the run passes between two looks.
    """

    def __init__(self, total_step: int) -> None:
        self._total_step = total_step
        self._later_limit = max(CERTAIN, total_step // 4)
        self._limit = min(MISSED_STEPS, self._later_limit)
        self._unchanged = self._wait = 0
        self._values: torch.Tensor | None = None
        self._first: torch.Tensor | None = None

    def remember(self, allocator: RankAllocator) -> None:
        """Remember E after a call of the allocator, and A after the first."""
        self._wait -= 1
        self._values = _singular_values(allocator) if self._wait < 0 else None
        if self._first is None:
            factor = local_part(allocator.parameters()[0].detach())
            is_low = factor.dtype in {torch.bfloat16, torch.float16}
            self._first = factor.clone() if is_low else factor.new_empty(0)

    def look(self, allocator: RankAllocator) -> DeferredInt | None:
        """Return whether E has changed since the call before; None where it is not looked at."""
        before, self._values = self._values, None
        if before is None:
            return None
        now = _singular_values(allocator)
        if before.shape != now.shape or not now.numel():
            return None
        is_here = now.device.type == "cpu"
        return DeferredInt(int(not torch.equal(before, now)) if is_here else (before != now).any())

    def fault(
        self,
        allocator: RankAllocator,
        optimizer: torch.optim.Optimizer | None,
        *,
        has_changed: bool,
    ) -> str:
        """Count a look after a step, and return what is wrong if E has not changed for too long."""
        self._unchanged = 0 if has_changed else self._unchanged + 1
        if has_changed:
            self._limit, self._wait = self._later_limit, self._total_step // 100
        if self._unchanged < self._limit:
            return ""
        count, self._unchanged = self._unchanged, 0
        values = allocator.parameters()[1::3]
        is_frozen = not any(each.requires_grad for each in values)
        rate = None if is_frozen or optimizer is None else rate_of(optimizer, values)
        if rate:
            return ""  # the gradient is zero, which is another fault, or LBFGS has converged
        how = "all of it is frozen" if is_frozen else f"its learning rate is {rate}"
        return f"E has not changed at {count} calls of update_and_allocate in a row: {how}"

    def rounding_fault(self, allocator: RankAllocator, calls: int) -> str:
        """Return what is wrong if most of A is in the middle of a run as at the start."""
        if calls != (self._total_step + 1) // 2:
            return ""
        factor, before = allocator.parameters()[0], self._first
        if before is None or factor.grad is None:
            return ""
        now, reached = local_part(factor.detach()), local_part(factor.grad) != 0
        if before.shape != now.shape or not reached.any():
            return ""
        share = 100 * int(((before == now) & reached).sum()) // int(reached.sum())
        if share <= MOST_UNCHANGED:
            return ""
        kept = f"{share} % of the entries of A in {now.dtype} are as at the first call"
        return f"{kept}: steps of the optimizer are rounded away"


@torch.no_grad()
def _singular_values(allocator: RankAllocator) -> torch.Tensor:
    """Return E of the matrices on the first device, one after the other."""
    values = [local_part(each) for each in allocator.parameters()[1::3]]
    return torch.cat([each for each in values if each.device == values[0].device])


def nonzero_gradients(allocator: RankAllocator) -> int | torch.Tensor:
    """Return how many gradients of E are not zero; on a CPU one stands for all."""
    gradients = [values.grad for values in allocator.parameters()[1::3] if values.grad is not None]
    if gradients[0].device.type == "cpu":
        return int(any(bool(local_part(each).any()) for each in gradients))
    norms = torch._foreach_norm([local_part(each) for each in gradients])  # noqa: SLF001
    return torch.stack([each.to(norms[0].device) for each in norms]).count_nonzero()


class DeferredInt:
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
    entries: DeferredInt
    nonzero: DeferredInt | None
    changed: DeferredInt | None

    @property
    def is_known(self) -> bool:
        """Whether no number is on its way."""
        numbers = (self.entries, self.nonzero, self.changed)
        return all(each is None or each.is_known() for each in numbers)
