"""Add the orthogonality penalty to the losses of an optimizer step, once per step if needed."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

import torch

from adalora_core.contract.rules.runs import PenaltyCountedTwice
from adalora_core.sharding import add_orthogonality_gradient_, orthogonality_penalty
from adalora_core.training.run.forwards import explain_backward

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adalora_core.allocation import AllocationReport
    from adalora_core.training.adapter import Adapter


MOST_WATCHED = 8
"""Training forwards whose penalties are watched for one that counts twice; it does so in each."""


class PenaltyPerStep:
    """Decides which training forwards of an optimizer step add the penalty, and its weight.

    Under gradient accumulation, transformers' Trainer divides the losses of a step by the number of
    micro-batches. Losses that are normalised over the whole step (the model gets
    `num_items_in_batch`) are different: they are summed, and multiplied by the number of processes
    before gradients are averaged over processes. A penalty in each of them would count once per
    micro-batch and process, so the first forward alone adds a share of it.

    Without calls of `begin_step` every forward adds the whole penalty.

    Attributes:
        forwards: training forwards so far, without those of compiled models.
        was_in_a_loss: whether a backward pass has reached a penalty so far.
        was_added: whether its gradient was added after a backward pass so far.
        was_counted_twice: whether one forward's losses had the penalty of `outputs.loss` and one
            that the caller added.
        is_left_out: whether forwards leave the penalty out of the losses.
        latest: the penalty that was computed last, until a backward pass reaches it; None without
            calls of `begin_step`.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self.was_in_a_loss = False
        self.was_added = False
        self.was_counted_twice = False
        self.is_left_out = False
        self.latest: torch.Tensor | None = None
        self._trained = False
        self._reached: dict[bool, int] = {}
        self._is_first: bool | None = None
        self._share = 1.0

    def __getstate__(self) -> dict[str, Any]:
        # Only the model that computed a penalty can have a backward pass that reaches it.
        return self.__dict__ | {"latest": None}

    @property
    def is_first(self) -> bool:
        """Whether the next forward is the first of its step, or may be."""
        return self._is_first is not False

    @property
    def is_missing(self) -> bool:
        """Whether no backward pass has reached a penalty since the step began."""
        return self._is_first is not None and not self._trained

    def begin_step(self, *, multiplied_by: int = 1) -> None:
        """Begin an optimizer step: the next forward is its first.

        Args:
            multiplied_by: the number by which the caller multiplies a loss that is normalised over
                the step, such as the number of processes; the penalty is divided by it.
        """
        self._trained = False
        self._is_first = True
        self._share = 1 / multiplied_by

    def end_steps(self) -> None:
        """Stop counting steps: `begin_step` is not called any more."""
        self._is_first = None
        self.latest = None

    def weight_for_forward(self, *, normalised_over_step: bool) -> float:
        """Return the weight of the penalty in the loss of the next forward.

        Args:
            normalised_over_step: whether the loss is normalised over the whole step.
        """
        if self._is_first is None or not normalised_over_step:
            return 1.0
        weight = self._share if self._is_first else 0.0
        self.end_first_forward()
        return weight

    def end_first_forward(self) -> None:
        """End the first forward of the step."""
        if self._is_first is not None:
            self._is_first = False

    def record(self, penalty: torch.Tensor, *, by_forward: bool) -> None:
        """Store the computed `penalty`, and watch for a backward pass that reaches it.

        Args:
            penalty: the weighted penalty.
            by_forward: whether a forward adds it to `outputs.loss`, or the caller to a loss.
        """
        if torch.compiler.is_compiling():
            # Only written: a compiled model would be compiled anew for each value that it reads.
            self._trained = self.was_in_a_loss = True
            return
        is_known = self.was_in_a_loss and self.forwards > MOST_WATCHED
        if not penalty.requires_grad or (self._is_first is None and is_known):
            return
        if self._is_first is not None:
            self.latest = penalty
        penalty.register_hook(functools.partial(self._mark_trained, by_forward, self.forwards))

    def leave_out(self) -> None:
        """Leave the penalty out of the losses of all forwards from now on."""
        self.is_left_out = True
        self.was_in_a_loss = False

    def end_of_step(self) -> None:
        """Forget which penalties the backward passes of an optimizer step have reached."""
        self._reached.clear()

    def record_added(self) -> None:
        """Note that the gradient of the penalty was added after a backward pass."""
        self._trained = self.was_added = True

    def _mark_trained(self, by_forward: bool, forward: int, _: torch.Tensor) -> None:
        self._trained = self.was_in_a_loss = True
        self._reached[by_forward] = forward
        self.was_counted_twice |= self._reached.get(not by_forward) == forward
        self.latest = None


def weighted_penalty(tuner: Any, *, by_forward: bool = False) -> torch.Tensor:
    """Return the weighted penalties of the trained adapters of `tuner`, a scalar.

    Args:
        tuner: a tuner of this package, or of an attached model of PEFT.
        by_forward: whether a forward adds it to `outputs.loss`.
    """
    terms = [
        orthogonality_penalty(*adapter.factors()) * adapter.spec.orth_reg_weight
        for adapter in _with_penalty(tuner)
    ]
    if not terms:
        return torch.zeros(())
    penalty: torch.Tensor = sum(terms[1:], terms[0])
    tuner.penalty_per_step.record(penalty, by_forward=by_forward)
    return penalty


def add_weighted_gradient(tuner: Any, scale: float) -> torch.Tensor:
    """Add the gradient of `scale * weighted_penalty(tuner)` to `.grad`, and return the penalties.

    Raises:
        ValueError: a backward pass has added it already.
    """
    if tuner.penalty_per_step.was_in_a_loss:
        raise ValueError(
            "add_orthogonality_gradient_: the penalty must be in no loss, or it counts twice, got "
            "a backward pass that reached it; a model adds it to outputs.loss: call "
            "leave_penalty_out_of_loss() before training, and add no orthogonality_penalty()"
        )
    tuner.penalty_per_step.record_added()
    terms = []
    for adapter in _with_penalty(tuner):
        weight = adapter.spec.orth_reg_weight
        terms.append(add_orthogonality_gradient_(*adapter.factors(), weight * scale) * weight)
    return sum(terms[1:], terms[0]) if terms else torch.zeros(())


def _with_penalty(tuner: Any) -> list[Adapter]:
    return [each for each in tuner.trained_adapters() if each.spec.orth_reg_weight > 0]


def add_penalty(
    tuner: Any,
    outputs: Any,
    arguments: Mapping[str, Any],
    *,
    unless: Callable[[Any], bool] | None = None,
) -> Any:
    """Add the penalty to `outputs.loss` of a forward in training mode, and return `outputs`.

    A loss without a graph gets a method `backward` that explains itself.

    Args:
        tuner: a tuner of this package, or of an attached model of PEFT.
        outputs: outputs of the base model.
        arguments: keyword arguments of the forward.
        unless: returns whether `tuner` gets no penalty in this forward.
    """
    loss, is_compiling = getattr(outputs, "loss", None), torch.compiler.is_compiling()
    if tuner.training and not is_compiling:
        tuner.penalty_per_step.forwards += 1
    if not isinstance(loss, torch.Tensor):
        return outputs
    if tuner.training and not (tuner.penalty_per_step.is_left_out or (unless and unless(tuner))):
        weight = tuner.penalty_per_step.weight_for_forward(
            normalised_over_step=arguments.get("num_items_in_batch") is not None
        )
        if weight and _with_penalty(tuner):
            penalty = weighted_penalty(tuner, by_forward=True)
            outputs.loss = loss = add_to_loss(loss, penalty if weight == 1 else penalty * weight)
    if not is_compiling:
        explain_backward(tuner.active_adapters, loss)
    return outputs


def allocate_all(tuner: Any, adapters: Sequence[Adapter], step: int) -> list[AllocationReport]:
    """Call the allocators of `adapters` of `tuner` after the 0-based optimizer step `step`.

    Raises:
        TypeError: `step` is not a number.
    """
    if not isinstance(step, float) or not float(step).is_integer():
        try:
            step = operator.index(step)
        except TypeError:
            raise TypeError(
                "update_and_allocate: expected the number of the optimizer step, an integer from "
                f"0, got {step!r}; count the optimizer steps, and pass the number of the step"
            ) from None
    tuner.agreement.before_step(adapters, step)
    seen = tuner.penalty_per_step
    has_penalty = seen.was_in_a_loss or seen.was_added
    seen.end_of_step()
    if seen.was_counted_twice:
        for adapter in _with_penalty(tuner):
            adapter.run.report(
                PenaltyCountedTwice,
                f"the penalty of the adapter {adapter.name!r}, which outputs.loss contains in "
                "training mode, was added to a loss of the same forward once more",
            )
    return [
        each.allocate(step, forwards=seen.forwards, has_penalty=has_penalty) for each in adapters
    ]


def add_to_loss(loss: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Return `loss + penalty`, in the dtype and on the device of `loss`."""
    return loss + penalty.to(loss.device, loss.dtype)
