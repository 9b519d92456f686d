"""Add the penalty to losses that transformers' Trainer computes from the outputs of a model."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from adalora_core.training.host import host_of
from adalora_core.training.penalty_per_step import add_to_loss

if TYPE_CHECKING:
    import torch
    from transformers import Trainer


def complete_loss(trainer: Trainer) -> None:
    """Make sure that the loss of `trainer` contains the penalty.

    A model adds the penalty to `outputs.loss`. Label smoothing, `compute_loss_func` and the
    `compute_loss` of a subclass may ignore this loss; the penalty is then added to their result. A
    second call changes nothing.
    """
    compute_loss = trainer.compute_loss
    if isinstance(compute_loss, _CompleteLoss):
        return
    complete = functools.wraps(compute_loss)(_CompleteLoss(trainer, compute_loss))
    setattr(trainer, "compute_loss", complete)  # noqa: B010 - mypy refuses to replace a method


class _CompleteLoss:
    """`Trainer.compute_loss` of one trainer, with the penalty."""

    def __init__(self, trainer: Trainer, compute_loss: Any) -> None:
        self._trainer = trainer
        self._compute_loss = compute_loss
        self._contains_computed: bool | None = None

    def __call__(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        options = {"return_outputs": return_outputs, "num_items_in_batch": num_items_in_batch}
        tuner = host_of(model, "AdaLoraCallback")
        per_step = tuner.training_run.penalty
        if not model.training or per_step.is_left_out:
            return self._compute_loss(model, inputs, **options)
        is_first, per_step.latest = per_step.is_first, None
        result = self._compute_loss(model, inputs, **options)
        loss = result[0] if return_outputs else result
        if per_step.latest is not None and self._contains_computed is None:
            self._contains_computed = _depends_on(loss, per_step.latest)
        is_contained = per_step.latest is not None and self._contains_computed
        per_step.latest = None
        if not is_contained and (is_first or not self._is_normalised(num_items_in_batch)):
            loss = add_to_loss(loss, tuner.orthogonality_penalty())
            per_step.end_first_forward()
        return (loss, *result[1:]) if return_outputs else loss

    def _is_normalised(self, num_items_in_batch: Any) -> bool:
        """Return whether Trainer leaves the loss undivided by the micro-batches of a step."""
        from transformers import Trainer

        trainer = self._trainer
        # As in Trainer.training_step, which in transformers 5.17 ignores this attribute.
        is_asked = hasattr(Trainer, "loss_is_scaled_for_ga")
        if is_asked and trainer.loss_is_scaled_for_ga is not None:
            return bool(trainer.loss_is_scaled_for_ga)
        return trainer.compute_loss_func is not None or (
            trainer.model_accepts_loss_kwargs and num_items_in_batch is not None
        )


def _depends_on(loss: torch.Tensor, part: torch.Tensor) -> bool:
    """Return whether `part` is in the autograd graph of `loss`."""
    waiting = [loss.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        if node is part.grad_fn:
            return True
        found = {following for following, _ in node.next_functions} - seen
        seen |= found
        waiting += found
    return False
