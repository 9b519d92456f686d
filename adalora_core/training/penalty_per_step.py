"""The orthogonality penalty in a loss: of which adapters, in which forward, and how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from adalora_core.sharding import orthogonality_penalty

if TYPE_CHECKING:
    from adalora_core.training.adapter import Adapter


class PenaltyPerStep:
    """Lets every training forward add the penalty, or only the first of an optimizer step.

    Under gradient accumulation transformers' Trainer divides the losses of a step by the number of
    micro-batches, unless they are normalised over the whole step (the model was handed
    `num_items_in_batch`): those are summed as they are, and multiplied by the number of processes
    before gradients are averaged over these. A penalty in each of them would count as often as
    there are micro-batches and processes.

    Attributes:
        latest: the penalty that was computed last, until a backward pass reaches it; kept only
            where somebody says when steps begin.
    """

    def __init__(self) -> None:
        self.latest: torch.Tensor | None = None
        self._trained = False
        self._is_first: bool | None = None
        self._share = 1.0

    @property
    def is_first(self) -> bool:
        """Whether the next forward is the first of its step, or may be: nobody has said."""
        return self._is_first is not False

    @property
    def is_missing(self) -> bool:
        """Whether no backward pass has reached a penalty since the step began."""
        return self._is_first is not None and not self._trained

    def begin_step(self, *, multiplied_by: int = 1) -> None:
        """Note that the next forward is the first of an optimizer step.

        Args:
            multiplied_by: what a loss that is normalised over the step is multiplied by later.
        """
        self._trained = False
        self._is_first = True
        self._share = 1 / multiplied_by

    def end_steps(self) -> None:
        """Note that nobody says any more when steps begin."""
        self._is_first = None
        self.latest = None

    def weight_for_forward(self, *, normalised_over_step: bool) -> float:
        """Return how much of the penalty the loss that a forward returns has to contain.

        Without a `begin_step` nobody knows where steps begin, and every forward adds it.
        """
        if self._is_first is None or not normalised_over_step:
            return 1.0
        weight = self._share if self._is_first else 0.0
        self.end_first_forward()
        return weight

    def end_first_forward(self) -> None:
        """Note that the first forward of the step has been."""
        if self._is_first is not None:
            self._is_first = False

    def record(self, penalty: torch.Tensor) -> None:
        """Note that `penalty` was computed, and see whether it is trained."""
        if self._is_first is None or not torch.is_grad_enabled():
            return
        self.latest = penalty
        if torch.compiler.is_compiling():
            self._trained = True
        elif penalty.requires_grad:
            penalty.register_hook(self._mark_trained)

    def _mark_trained(self, _: torch.Tensor) -> None:
        self._trained = True
        self.latest = None


def weighted_penalty(tuner: Any) -> torch.Tensor:
    """Return the weighted penalties of the trained adapters of `tuner`, a scalar.

    Args:
        tuner: ours, or the one of an attached model of PEFT.
    """
    terms = [
        orthogonality_penalty(*adapter.factors()) * adapter.spec.orth_reg_weight
        for adapter in _with_penalty(tuner)
    ]
    if not terms:
        return torch.zeros(())
    penalty: torch.Tensor = sum(terms[1:], terms[0])
    tuner.penalty_per_step.record(penalty)
    return penalty


def _with_penalty(tuner: Any) -> list[Adapter]:
    return [each for each in tuner.trained_adapters() if each.spec.orth_reg_weight > 0]


def plus_penalty(tuner: Any, loss: torch.Tensor, *, normalised_over_step: bool) -> torch.Tensor:
    """Return the loss of a training forward of `tuner` with what it has to contain of the penalty.

    Args:
        tuner: ours, or the one of an attached model of PEFT.
        loss: the task's.
        normalised_over_step: whether `loss` will be summed over the forwards of a step as it is.
    """
    weight = tuner.penalty_per_step.weight_for_forward(normalised_over_step=normalised_over_step)
    if weight == 0 or not _with_penalty(tuner):
        return loss
    penalty = weighted_penalty(tuner)
    return add_to_loss(loss, penalty if weight == 1 else penalty * weight)


def add_to_loss(loss: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Return `loss + penalty`, in the dtype and on the device of `loss`."""
    return loss + penalty.to(loss.device, loss.dtype)
