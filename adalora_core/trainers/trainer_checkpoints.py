"""Save and resume under transformers' Trainer what FSDP2 has divided.

Trainer gathers the parameters and saves them from one process, and loads them after it has divided
the model. The rest of a run, averages and kept sets, is divided too, so every process has to take
part in saving it; these functions write it beside Trainer's files and read it again.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from adalora_core.floor.errors import CheckpointError
from adalora_core.sharding import are_sharded
from adalora_core.training.adapter_file.folder import folder_of, states_in
from adalora_core.training.host import host_of, unwrapped

if TYPE_CHECKING:
    from transformers import Trainer


def is_divided(model: object) -> bool:
    """Return whether the trained adapters of `model` are divided by FSDP2."""
    adapters = host_of(model, "AdaLoraCallback").trained_adapters()
    return any(are_sharded(adapter.factors()[0]) for adapter in adapters)


def show_checkpoint(trainer: Trainer, callback: Any) -> None:
    """Set `callback.checkpoint` to the folder that `trainer.train` resumes from, or to None."""
    train = trainer.train

    @functools.wraps(train)
    def shown(resume_from_checkpoint: str | bool | None = None, *args: Any, **options: Any) -> Any:
        folder = resume_from_checkpoint
        callback.checkpoint = Path(folder) if folder and not isinstance(folder, bool) else None
        return train(resume_from_checkpoint, *args, **options)

    setattr(trainer, "train", shown)  # noqa: B010 - mypy refuses to replace a method


def resume(model: object, checkpoint: Path, *, is_in_zero: bool) -> None:
    """Give the trained adapters values and training state of `checkpoint`, if they are divided.

    Trainer loads the parameters alone, and DeepSpeed (`is_in_zero`) restores factors and optimizer.
    Every process has to call it.
    """
    divided = is_divided(model)
    if divided:
        distributed.barrier()  # the first process may still be writing it
    elif not is_in_zero:
        return
    elif not checkpoint.is_dir():
        raise CheckpointError(
            f"AdaLoraCallback: DeepSpeed has resumed a run, and {str(checkpoint)!r}, where its "
            "training state should be, is not a folder; use AdaLoraCallback().add_to(trainer), "
            "which learns of the checkpoint, before trainer.train(resume_from_checkpoint=...)"
        )
    inner: Any = unwrapped(model)
    for adapter in host_of(model, "AdaLoraCallback").trained_adapters():
        folder = folder_of(checkpoint, adapter.name)
        if divided and not states_in(folder):
            raise CheckpointError(
                f"AdaLoraCallback: {str(folder)!r} has no training state of the adapter "
                f"{adapter.name!r}: the run was killed while it was saved, or resumes from another "
                "folder. Resume from an older checkpoint; if the folder is not that of "
                "trainer.train(resume_from_checkpoint=...), add the callback with "
                "AdaLoraCallback().add_to(trainer). Nothing was changed"
            )
        inner.load_adapter(str(folder), adapter.name, is_trainable=True)


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
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        options = {"return_outputs": return_outputs, "num_items_in_batch": num_items_in_batch}
        tuner = host_of(model, "AdaLoraCallback")
        per_step = tuner.training_run.penalty
        if not model.training or per_step.is_left_out:
            return self._compute_loss(model, inputs, **options)
        is_first, per_step.latest = per_step.is_first is not False, None
        result = self._compute_loss(model, inputs, **options)
        loss = result[0] if return_outputs else result
        if per_step.latest is not None and self._contains_computed is None:
            self._contains_computed = _depends_on(loss, per_step.latest)
        is_contained = per_step.latest is not None and self._contains_computed
        per_step.latest = None
        if not is_contained and (is_first or not self._is_normalised(num_items_in_batch)):
            loss = loss + tuner.orthogonality_penalty().to(loss.device, loss.dtype)
            if per_step.is_first:
                per_step.is_first = False
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
