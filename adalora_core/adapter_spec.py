"""What compute needs to know of a configuration: plain numbers, so that it never loads pydantic."""

from __future__ import annotations

from dataclasses import dataclass

from adalora_core.budget import BudgetSchedule

SCALE_EPSILON = 1e-5
"""PEFT divides by `init_r + 1e-5`; kept, or reloaded adapters would give other outputs."""


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """One adapter's numbers, in the words of the configuration (see the glossary)."""

    init_r: int = 12
    target_r: int = 8
    lora_alpha: int = 8
    lora_dropout: float = 0.0
    init_lora_weights: bool = True
    tinit: int = 0
    tfinal: int = 0
    deltaT: int = 1  # noqa: N815 - the wire name
    beta1: float = 0.85
    beta2: float = 0.85
    orth_reg_weight: float = 0.5
    total_step: int | None = None

    @property
    def scale(self) -> float:
        """`lora_alpha / (init_r + 1e-5)`, constant for ever: pruning does not change it."""
        return self.lora_alpha / (self.init_r + SCALE_EPSILON)

    def schedule(self, matrix_count: int) -> BudgetSchedule:
        """Return the budget schedule of a model with `matrix_count` adapted matrices.

        Raises:
            ValueError: `total_step` is not known.
        """
        if self.total_step is None:
            raise ValueError(
                "total_step is not set: training with AdaLoRA needs the number of optimizer steps "
                "of the whole run; pass AdaLoraConfig(total_step=...)"
            )
        return BudgetSchedule(
            initial_budget=self.init_r * matrix_count,
            target_budget=self.target_r * matrix_count,
            tinit=self.tinit,
            tfinal=self.tfinal,
            total_step=self.total_step,
            deltaT=self.deltaT,
        )
