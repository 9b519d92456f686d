"""The orthogonality penalty in a loss: of which adapters, in which forward, and how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from adalora_core.sharding import orthogonality_penalty

if TYPE_CHECKING:
    from adalora_core.training.adapter import Adapter


class PenaltyTurn:
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
        self._pending: bool | None = None
        self._share = 1.0

    @property
    def is_first(self) -> bool:
        """Whether the next forward is the first of its step, or may be: nobody has said."""
        return self._pending is not False

    @property
    def was_passed_by(self) -> bool:
        """Whether no backward pass has reached a penalty since the step began."""
        return self._pending is not None and not self._trained

    def begin_step(self, *, multiplied_by: int = 1) -> None:
        """Note that the next forward is the first of an optimizer step.

        Args:
            multiplied_by: what a loss that is normalised over the step is multiplied by later.
        """
        self._trained = False
        self._pending = True
        self._share = 1 / multiplied_by

    def forget_steps(self) -> None:
        """Note that nobody says any more when steps begin."""
        self._pending = None
        self.latest = None

    def take(self, *, normalised_over_step: bool) -> float:
        """Return how much of the penalty the loss that a forward returns has to contain.

        Without a `begin_step` nobody knows where steps begin, and every forward adds it.
        """
        if self._pending is None or not normalised_over_step:
            return 1.0
        weight = self._share if self._pending else 0.0
        self.end_first()
        return weight

    def end_first(self) -> None:
        """Note that the first forward of the step has been."""
        if self._pending is not None:
            self._pending = False

    def note(self, penalty: torch.Tensor) -> None:
        """Note that `penalty` was computed, and see whether it is trained."""
        if self._pending is None or not torch.is_grad_enabled():
            return
        self.latest = penalty
        if torch.compiler.is_compiling():
            self._trained = True
        elif penalty.requires_grad:
            penalty.register_hook(self._reached)

    def _reached(self, _: torch.Tensor) -> None:
        self._trained = True
        self.latest = None


def weighted_penalty(tuner: Any) -> torch.Tensor:
    """Return the weighted penalties of the trained adapters of `tuner`, a scalar.

    Args:
        tuner: ours, or the one of an attached model of PEFT.
    """
    terms = [
        orthogonality_penalty(*adapter.factors()) * adapter.spec.orth_reg_weight
        for adapter in _weighing(tuner)
    ]
    if not terms:
        return torch.zeros(())
    penalty: torch.Tensor = sum(terms[1:], terms[0])
    tuner.penalty_turn.note(penalty)
    return penalty


def _weighing(tuner: Any) -> list[Adapter]:
    return [each for each in tuner.trained_adapters() if each.spec.orth_reg_weight > 0]


def plus_penalty(tuner: Any, loss: torch.Tensor, *, normalised_over_step: bool) -> torch.Tensor:
    """Return the loss of a training forward of `tuner` with what it has to contain of the penalty.

    Args:
        tuner: ours, or the one of an attached model of PEFT.
        loss: the task's.
        normalised_over_step: whether `loss` will be summed over the forwards of a step as it is.
    """
    weight = tuner.penalty_turn.take(normalised_over_step=normalised_over_step)
    if weight == 0 or not _weighing(tuner):
        return loss
    penalty = weighted_penalty(tuner)
    return added(loss, penalty if weight == 1 else penalty * weight)


def added(loss: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Return `loss + penalty`, in the dtype and on the device of `loss`."""
    return loss + penalty.to(loss.device, loss.dtype)
