"""See the steps of every optimizer, by one global hook, and whether they move factors."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from adalora_core.sharding.layout import local_part

if TYPE_CHECKING:
    from adalora_core.allocation import RankAllocator


_watchers: weakref.WeakSet[Any] = weakref.WeakSet()
_held: weakref.WeakKeyDictionary[torch.optim.Optimizer, dict[Any, frozenset[int]]] = (
    weakref.WeakKeyDictionary()
)
_REMEMBERED = 8
_seen: list[int] = []
"""The optimizer whose step a hook of its own has shown already: such hooks come first."""


_installed: list[Any] = []

MOST_UNCHANGED = 50
"""Percentage of the entries of a factor that may be as they were in the middle of a run."""

CERTAIN = 3
"""How often an event must happen before it counts as a fault."""

MISSED_STEPS = 30
"""Most steps without an allocation, or without a change, before it is reported."""


def watch_steps(watcher: Any) -> None:
    """Call `watcher.see_step` after every step of an optimizer, as long as the watcher lives."""
    if not _installed:
        _installed.append(register_optimizer_step_post_hook(_after_step))
    _watchers.add(watcher)


def show_step(optimizer: torch.optim.Optimizer) -> None:
    """Show a step to the watchers before the global hook does."""
    _seen.clear()  # the global hook is not called if one of the optimizer raises
    _after_step(optimizer)
    _seen.append(id(optimizer))


def _after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    if torch.compiler.is_compiling():
        return
    if _seen and _seen.pop() == id(optimizer):
        return
    for watcher in list(_watchers):
        watcher.see_step(optimizer)


def was_skipped(optimizer: torch.optim.Optimizer) -> bool | None:
    """Return whether the step did nothing because of an overflow; None if only a device knows.

    A gradient scaler does not call other optimizers than fused ones after an overflow.
    """
    found = getattr(optimizer, "found_inf", None)
    if found is None:
        return False
    return (
        bool(found) if not isinstance(found, torch.Tensor) or found.device.type == "cpu" else None
    )


def held_by(optimizer: torch.optim.Optimizer, factors: Sequence[torch.Tensor]) -> frozenset[int]:
    """Return which of `factors` the optimizer holds, by their index."""
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    return frozenset(index for index, each in enumerate(factors) if id(each) in held)


def held_at_step(optimizer: torch.optim.Optimizer, allocator: Any) -> frozenset[int]:
    """Return `held_by` of an allocator's factors; looked up anew when either changes."""
    key = (
        id(allocator),
        id(allocator.matrices[0].lora_E[allocator.matrices[0].adapter_name]),
        *(len(group["params"]) for group in optimizer.param_groups),
    )
    known = _held.setdefault(optimizer, {})
    if key not in known:
        if len(known) > _REMEMBERED:
            known.clear()
        known[key] = held_by(optimizer, allocator.parameters())
    return known[key]


def rate_of(optimizer: torch.optim.Optimizer, factors: Sequence[torch.Tensor]) -> float | None:
    """Return the largest learning rate of the groups that hold some of `factors`."""
    held = {id(each) for each in factors}
    rates = (
        float(group["lr"])
        for group in optimizer.param_groups
        if "lr" in group and any(id(each) in held for each in group["params"])
    )
    return max(rates, default=None)


def factor_groups(
    model: nn.Module, lr: float, *, singular_values: float = 16
) -> list[dict[str, Any]]:
    """Return two parameter groups: what `model` trains but E, and E with a larger learning rate.

    Adam moves each number by about its learning rate. E has one number per triplet, and A and B
    have hundreds, so that with PEFT's start, E = 0, the adapter hardly moves at first. With
    `init_lora_weights="lora"` no group is needed.

    Args:
        model: a model with an AdaLoRA adapter, of this package or of PEFT, wrapped or not.
        lr: learning rate of A, B, and whatever else is trained: heads, `modules_to_save`, biases.
        singular_values: how many times `lr` the learning rate of E is.

    Raises:
        ValueError: `model` has no AdaLoRA adapter that is trained, or `singular_values` is not
            above 0.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, factor_groups, get_peft_model
        >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
        >>> optimizer = torch.optim.AdamW(factor_groups(model, lr=1e-3))
        >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
        [(2, 0.001), (1, 0.016)]
    """
    if not singular_values > 0:
        raise ValueError(f"singular_values: expected a number above 0, got {singular_values!r}")
    trained = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    E = [each for name, each in trained if "lora_E" in name.split(".")]
    if not E:
        raise ValueError(
            f"factor_groups: expected a model with an AdaLoRA adapter that is trained, got "
            f"{type(model).__name__} without a trainable lora_E; adapt it with get_peft_model "
            "first, or load its adapter with is_trainable=True"
        )
    others = [each for name, each in trained if "lora_E" not in name.split(".")]
    return [{"params": others, "lr": lr}, {"params": E, "lr": lr * singular_values}]


class Holders:
    """Counts which factors of an adapter are held by optimizers that make steps."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._steps: dict[int, int] = {}
        self._others = 0
        self._others_since = 0

    def fault_of(
        self, optimizer: torch.optim.Optimizer, allocator: Any, held: frozenset[int]
    ) -> str:
        """Return what is wrong if `optimizer`, after a step, lacks factors with gradients."""
        total = 3 * len(allocator.matrices)
        if len(self._held) == total:
            return ""
        self._held |= held
        missing, factors = set(range(total)) - self._held, allocator.parameters()
        # An E if possible.
        first = min(missing, key=lambda index: (index % 3 != 1, index), default=None)
        if first is None or factors[first].grad is None:
            return ""
        self._others += 1
        self._others_since += 1
        groups = optimizer.param_groups
        if not held and any(each.grad is not None for group in groups for each in group["params"]):
            return ""
        count = self._steps[id(optimizer)] = self._steps.get(id(optimizer), 0) + 1
        made = f"{type(optimizer).__name__} made {count} steps and"
        return self._holding(made, allocator) if count > 1 else ""

    def take_others(self) -> int:
        """Return the steps since the last call of optimizers that lack factors."""
        steps, self._others_since = self._others_since, 0
        return 0 if self._held else steps

    def fault_of_all(self, allocator: Any, others: int) -> str:
        """Return what is wrong if E stays as it is while `others` steps are made."""
        what = f"after {self._others} steps every optimizer that makes steps"
        return self._holding(what, allocator) if others else ""

    def _holding(self, what: str, allocator: Any) -> str:
        return f"{what} holds {len(self._held)} of the {3 * len(allocator.matrices)} factors"


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
        """Return what is wrong if most of A is, in the middle of a run, as at the start."""
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
    values = (matrix.lora_E[matrix.adapter_name] for matrix in allocator.matrices)
    gradients = (each.grad for each in values if each is not None and each.grad is not None)
    first = next(gradients)
    if first.is_cpu:
        return int(any(bool(local_part(each).any()) for each in chain((first,), gradients)))
    norms = torch._foreach_norm([local_part(each) for each in (first, *gradients)])  # noqa: SLF001
    return torch.stack([each.to(norms[0].device) for each in norms]).count_nonzero()


class DeferredInt:
    """A number that may still be on its way from a device."""

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

    `stepped`: whether the optimizer made a step before the call, None if only a device knows.
    `is_extra`: no step since the last call, and gradients nevertheless. `others`: steps of
    optimizers that lack factors. `entries` of gradients are not finite. `nonzero` counts gradients
    of E, and `changed` tells whether E has; None where it was not looked at.
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
