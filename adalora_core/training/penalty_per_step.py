"""Add the orthogonality penalty to the losses of an optimizer step, once per step if needed."""

from __future__ import annotations

import functools
from typing import Any

import torch

MOST_WATCHED = 8
"""How many training forwards are watched for a penalty that counts twice."""


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
        reached: the last forward whose penalty a backward pass of the step has reached, by whether
            the forward has added it.
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
        self.reached: dict[bool, int] = {}
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

    def record_added(self) -> None:
        """Note that the gradient of the penalty was added after a backward pass."""
        self._trained = self.was_added = True

    def _mark_trained(self, by_forward: bool, forward: int, _: torch.Tensor) -> None:
        self._trained = self.was_in_a_loss = True
        self.reached[by_forward] = forward
        self.was_counted_twice |= self.reached.get(not by_forward) == forward
        self.latest = None


def add_to_loss(loss: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Return `loss + penalty`, in the dtype and on the device of `loss`."""
    return loss + penalty.to(loss.device, loss.dtype)
