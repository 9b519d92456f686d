"""Compare optimizers with factors: parameter groups, what they hold, and the steps they make."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakIdKeyDictionary

from adalora_core.allocation import RankAllocator

_held: weakref.WeakKeyDictionary[torch.optim.Optimizer, dict[Any, frozenset[int]]] = (
    weakref.WeakKeyDictionary()
)
_REMEMBERED = 8
_ever_held: Any = WeakIdKeyDictionary()
"""The parameters in optimizers that have made a step."""


def was_skipped(optimizer: torch.optim.Optimizer) -> bool | None:
    """Return whether the step did nothing because of an overflow; None if only a device knows.

    A gradient scaler does not call other optimizers than fused ones after an overflow.
    """
    found = getattr(optimizer, "found_inf", None)
    is_on_device = isinstance(found, torch.Tensor) and not found.is_cpu
    return None if is_on_device else bool(found)


def held_by(optimizer: torch.optim.Optimizer, factors: Sequence[torch.Tensor]) -> frozenset[int]:
    """Return which of `factors` the optimizer holds, by their index."""
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    return frozenset(index for index, each in enumerate(factors) if id(each) in held)


def held_at_step(optimizer: torch.optim.Optimizer, allocator: RankAllocator) -> frozenset[int]:
    """Return `held_by` of an allocator's factors; looked up anew when either changes."""
    first = allocator.matrices[0]
    sizes = (len(group["params"]) for group in optimizer.param_groups)
    key = id(allocator), id(first.lora_E[first.adapter_name]), *sizes
    known = _held.setdefault(optimizer, {})
    if key not in known:
        if len(known) > _REMEMBERED:
            known.clear()
        known[key] = held_by(optimizer, allocator.parameters())
        # What shows the steps of an engine has the factors alone.
        if isinstance(optimizer, torch.optim.Optimizer):
            groups = (group["params"] for group in optimizer.param_groups)
            _ever_held.update((each, True) for params in groups for each in params)
    return known[key]


def was_held(parameter: torch.Tensor) -> bool:
    """Return whether an optimizer that has made a step held `parameter`."""
    return parameter in _ever_held


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


# --- steps of optimizers ----------------------------------------------------------------------


_watching: weakref.WeakSet[Any] = weakref.WeakSet()
_seen: list[int] = []
"""The optimizer whose step a hook of its own has shown already: such hooks come first."""
_installed: list[Any] = []


def watch_steps(run: Any) -> None:
    """Call `run.see_step` after every step of an optimizer, as long as `run` lives."""
    if not _installed:
        _installed.append(register_optimizer_step_post_hook(_after_step))
    _watching.add(run)


def show_step(optimizer: torch.optim.Optimizer) -> None:
    """Show a step to the watched runs before the global hook does."""
    _seen.clear()  # the global hook is not called if one of the optimizer raises
    _after_step(optimizer)
    _seen.append(id(optimizer))


def _after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    if torch.compiler.is_compiling():
        return
    if _seen and _seen.pop() == id(optimizer):
        return
    for run in list(_watching):
        run.see_step(optimizer)
