"""Carry the numbers of a configuration to the compute layers, which never load pydantic."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

from adalora_core.floor.budget import BudgetSchedule

SCALE_EPSILON = 1e-5
"""PEFT divides by `init_r + 1e-5`; kept, or reloaded adapters would give other outputs."""

LORA_START = "lora"
"""The value of `init_lora_weights` for the start of LoRA; PEFT reads it as true."""

SENSITIVITY = "sensitivity"
PER_PARAMETER = "per-parameter"
CRITERIA = (SENSITIVITY, PER_PARAMETER, "magnitude", "snr", "random")
"""The names of `importance_criterion`; the first one is the paper's and the only one of PEFT."""


def criterion_name(criterion: str | Callable[..., Any]) -> str:
    """Return the name of a criterion, of a callable with its module; files and messages hold it.

    Example:
        >>> criterion_name("snr"), criterion_name(scale_of)
        ('snr', 'callable adalora_core.floor.adapter_spec.scale_of')
    """
    if isinstance(criterion, str):
        return criterion
    named = criterion if hasattr(criterion, "__qualname__") else type(criterion)
    return f"callable {named.__module__}.{named.__qualname__}"


def names_one_function(name: str) -> bool:
    """Return whether a `criterion_name` is of one function alone.

    Lambdas and functions inside functions share names, and a partial has that of its class.

    Example:
        >>> names_one_function("callable train.energy")
        True
        >>> names_one_function("callable train.<lambda>")
        False
    """
    return "<" not in name and name != "callable functools.partial"


def scale_of(lora_alpha: float, init_r: int) -> float:
    """Return the factor on an adapter's output, `lora_alpha / (init_r + 1e-5)`.

    The scale is the same at every step: pruning does not change it.

    Example:
        >>> round(scale_of(8, 4), 4)
        2.0
    """
    return lora_alpha / (init_r + SCALE_EPSILON)


def _plain(value: Any) -> Any:
    """Return an integer of NumPy as an int, and any other value unchanged."""
    is_other_integer = hasattr(type(value), "__index__") and not isinstance(value, bool)
    return operator.index(value) if is_other_integer else value


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """The numbers of one adapter, named as in the configuration (see the glossary)."""

    init_r: int = 12
    target_r: int = 8
    lora_alpha: int = 8
    lora_dropout: float = 0.0
    init_lora_weights: bool | str = True
    tinit: int = 0
    tfinal: int = 0
    deltaT: int = 1  # noqa: N815 - the wire name
    beta1: float = 0.85
    beta2: float = 0.85
    orth_reg_weight: float = 0.5
    total_step: int | None = None
    importance_criterion: str | Callable[..., Any] = SENSITIVITY

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return the numbers of `config`, an `AdaLoraConfig` of this package or of PEFT.

        A `total_step` of "auto" is not known yet, hence None. PEFT's class takes numbers of NumPy.
        """
        values = {
            each.name: _plain(getattr(config, each.name))
            for each in fields(cls)
            # PEFT has no such field.
            if each.name != "importance_criterion" or hasattr(config, each.name)
        }
        total_step = values["total_step"]
        if isinstance(total_step, float) and total_step.is_integer():
            total_step = int(total_step)
        start = config.init_lora_weights
        converted = {
            "init_lora_weights": start if start == LORA_START else bool(start),
            "total_step": None if isinstance(total_step, str) else total_step,
        }
        return cls(**values | converted)

    def numbers(self) -> dict[str, Any]:
        """Return all fields but the criterion, as JSON values by name."""
        names = [each.name for each in fields(self) if each.name != "importance_criterion"]
        return {name: getattr(self, name) for name in names}

    @property
    def scale(self) -> float:
        """The factor on the adapter's output, see `scale_of`."""
        return scale_of(self.lora_alpha, self.init_r)

    def schedule(self) -> BudgetSchedule:
        """Return the budget schedule of one matrix; `for_matrices` gives that of a model.

        Raises:
            ValueError: `total_step` is not known.
        """
        if self.total_step is None:
            raise ValueError(
                "total_step is not set: training with AdaLoRA needs the number of optimizer steps "
                "of the whole run; pass AdaLoraConfig(total_step=...)"
            )
        return BudgetSchedule(
            initial_budget=self.init_r,
            target_budget=self.target_r,
            tinit=self.tinit,
            tfinal=self.tfinal,
            total_step=self.total_step,
            deltaT=self.deltaT,
        )
