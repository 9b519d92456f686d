"""Make a training step of a Trainer of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


class TrainerStep:
    """The loss of a Trainer for batches of its training set, one for each step.

    Args:
        trainer: a `transformers.Trainer`; its state is left alone.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._batches: Iterator[Any] | None = None
        self._kept: dict[int, Any] = {}

    def __call__(self, model: torch.nn.Module, step: int) -> torch.Tensor:
        """Return the loss of `model` on the batch of `step`."""
        trainer = self._trainer
        if step not in self._kept:
            self._kept[step] = self._next_batch()
        inputs = trainer._prepare_inputs(dict(self._kept[step]))  # noqa: SLF001 - no public way
        with trainer.compute_loss_context_manager():
            loss: torch.Tensor = trainer.compute_loss(model, inputs)
        return loss

    def _next_batch(self) -> Any:
        while True:
            if self._batches is None:
                prepared = self._trainer.accelerator._dataloaders  # noqa: SLF001
                before = list(prepared)
                self._batches = iter(self._trainer.get_train_dataloader())
                prepared[:] = before
            try:
                return next(self._batches)
            except StopIteration:
                self._batches = None
