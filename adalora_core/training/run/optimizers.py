"""See the steps of every optimizer of torch, by one global hook."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.training.run.judging import RunWatch

_watchers: weakref.WeakSet[RunWatch] = weakref.WeakSet()
_held: weakref.WeakKeyDictionary[torch.optim.Optimizer, dict[Any, frozenset[int]]] = (
    weakref.WeakKeyDictionary()
)
_REMEMBERED = 8
_seen: list[int] = []
"""The optimizer whose step a hook of its own has shown already: such hooks come first."""


def watch_steps(watcher: RunWatch) -> None:
    """Call `watcher.see_step` after every step of an optimizer, as long as the watcher lives."""
    if not _installed:
        _installed.append(register_optimizer_step_post_hook(_after_step))
    _watchers.add(watcher)


_installed: list[Any] = []


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


def moves_nothing(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether no parameter of the optimizer has a gradient."""
    return all(each.grad is None for group in optimizer.param_groups for each in group["params"])


class Holders:
    """Counts which factors of an adapter the optimizers hold that make steps."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._steps: dict[int, int] = {}
        self._others = 0
        self._others_since = 0

    def fault_of(
        self, optimizer: torch.optim.Optimizer, allocator: Any, held: frozenset[int]
    ) -> str:
        """Return what is wrong if `optimizer`, after a step, leaves out factors with gradients."""
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
        if not held and not moves_nothing(optimizer):
            return ""
        count = self._steps[id(optimizer)] = self._steps.get(id(optimizer), 0) + 1
        made = f"{type(optimizer).__name__} made {count} steps and"
        return self._holding(made, allocator) if count > 1 else ""

    def take_others(self) -> int:
        """Return the steps since the last call of optimizers that leave out factors."""
        steps, self._others_since = self._others_since, 0
        return 0 if self._held else steps

    def fault_of_all(self, allocator: Any, others: int) -> str:
        """Return what is wrong if E stays as it is while `others` steps are made."""
        what = f"after {self._others} steps every optimizer that makes steps"
        return self._holding(what, allocator) if others else ""

    def _holding(self, what: str, allocator: Any) -> str:
        return f"{what} holds {len(self._held)} of the {3 * len(allocator.matrices)} factors"
