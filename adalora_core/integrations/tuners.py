"""Find the tuner of a model that this package or PEFT has made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from adalora_core.training.adapter import Adapter
    from adalora_core.training.agreement import AgreementCheck
    from adalora_core.training.penalty_per_step import PenaltyPerStep
    from adalora_core.training.run_end import RunReport


TUNER = "_adalora_tuner"
"""Attribute of a module with injected adapters that is attached: its tuner."""


@runtime_checkable
class Tuner(Protocol):
    """The tuner of an `AdaLoraModel`, of an attached model of PEFT or of an attached module."""

    penalty_per_step: PenaltyPerStep
    agreement: AgreementCheck
    active_adapters: list[str]

    def trained_adapters(self) -> Sequence[Adapter]:
        """Return the active adapters that are made for training."""

    def update_and_allocate(self, global_step: int) -> Any:
        """Call the allocators after an optimizer step."""

    def orthogonality_penalty(self) -> torch.Tensor:
        """Return the weighted penalty."""

    def bind_total_step(self, total_step: int) -> None:
        """Replace a `total_step` of "auto" by a number."""

    def run_report(self) -> RunReport:
        """Return what the run was."""

    def finalize(self) -> None:
        """Enforce the target budget."""


def unwrapped(model: Any) -> nn.Module:
    """Return the model inside the wrappers of data-parallel training and of `torch.compile`."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in {"DistributedDataParallel", "DataParallel"}:
            inner = model.module
        if inner is None:
            return model  # type: ignore[no-any-return]  # a module by contract
        model = inner


def tuner_of(model: Any, purpose: str) -> Tuner:
    """Return the tuner of `model`, wrapped or not.

    Raises:
        TypeError: `model` is neither an `AdaLoraModel` nor attached.
    """
    inner = unwrapped(model)
    tuner = getattr(inner, "__dict__", {}).get(TUNER) or getattr(inner, "base_model", None)
    if not isinstance(tuner, Tuner):
        raise TypeError(
            f"{purpose}: expected a model of adalora_core.get_peft_model, or one of PEFT after "
            f"adalora_core.integrations.peft.attach(model); got {type(model).__name__}"
        )
    return tuner


def allocate_next(tuner: Tuner) -> None:
    """Call the allocators after the step that follows the last one they have seen."""
    allocators = [adapter.allocator for adapter in tuner.trained_adapters()]
    steps = [each.last_step for each in allocators if each and each.last_step is not None]
    tuner.update_and_allocate(max(steps, default=-1) + 1)
