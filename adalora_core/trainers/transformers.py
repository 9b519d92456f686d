"""Run AdaLoRA under transformers' Trainer, with `AdaLoraCallback`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adalora_core.config.rules.runs import TwoHooks
from adalora_core.floor.budget import Phase
from adalora_core.floor.errors import MissingExtraError, ParallelismError
from adalora_core.sharding import reshard
from adalora_core.trainers import optimizer_hook as hooks
from adalora_core.trainers import trainer_checkpoints as checkpoints
from adalora_core.training.adapter_file.folder import states_in
from adalora_core.training.host import TUNER, host_of, learning_adapters, unwrapped
from adalora_core.training.run.reporting import refuse
from adalora_core.training.run_end import warn_if_best_is_unpruned

try:
    from transformers import TrainerCallback
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
except ImportError as error:
    raise MissingExtraError("transformers", "transformers", "AdaLoraCallback") from error

if TYPE_CHECKING:
    from transformers import Trainer, TrainerState, TrainingArguments

_PHASE_NUMBERS = {Phase.WARMUP: 0, Phase.BUDGETING: 1, Phase.FINAL: 2}


class AdaLoraCallback(TrainerCallback):
    """Allocate ranks, set a `total_step` of "auto", write logs and make checkpoints resumable.

    Works for a model of `adalora_core.peft`, and for a model of PEFT or a module with injected
    adapters after `adalora_core.bridge.attach(model)`. Steps are optimizer steps, for any
    `gradient_accumulation_steps`; the gradients of a step that the fp16 scaler skips are ignored.
    Checkpoints hold the adapter and, until the last step, its training state;
    `trainer.train(resume_from_checkpoint=...)` continues from them. DDP and FSDP2 are supported.

    Attributes:
        checkpoint: the folder that the run resumes from; None where `add_to` was not called, for a
            new run, and for the last checkpoint in `output_dir`.

    Training logs get `budget` and `mean_rank` (triplets kept, over all matrices and on average),
    `phase` (0 warm-up, 1 budgeting, 2 final), `orthogonality` (the weighted penalty) and
    `skipped_entries` (entries of gradients that were not finite, so far).

    Example:
        >>> from transformers import Trainer
        >>> def trainer_for(model, args, dataset):
        ...     trainer = Trainer(model, args, train_dataset=dataset)
        ...     AdaLoraCallback().add_to(trainer)
        ...     return trainer
    """

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint: Path | None = None
        self._loss_scale = 0.0
        self._zero: hooks.ZeroHook | None = None

    def add_to(self, trainer: Trainer) -> None:
        """Add the callback before those that write logs, so that these see its numbers.

        The penalty is then part of the loss, no matter what computes the loss: the model, label
        smoothing, `compute_loss_func` or the `compute_loss` of a subclass. A loss that contains
        `model.orthogonality_penalty()` already gets no second penalty.

        `Trainer(callbacks=[AdaLoraCallback()])` works too, but the writers of `report_to` then do
        not see the numbers, a missing penalty is a warning, and under FSDP2 a run resumes from
        folders in `output_dir` alone. An earlier `AdaLoraCallback` is replaced, since two would
        count every step twice.
        """
        handler = trainer.callback_handler
        others = [each for each in handler.callbacks if not isinstance(each, AdaLoraCallback)]
        handler.callbacks = [self, *others]
        self.on_init_end(trainer.args, trainer.state, trainer.control, model=trainer.model)
        checkpoints.complete_loss(trainer)
        checkpoints.show_checkpoint(trainer, self)

    # --- Trainer's events -----------------------------------------------------------------------

    def on_init_end(self, *_: Any, model: object = None, **__: Any) -> None:
        """Refuse a model whose ranks cannot be allocated, or that Trainer would save whole."""
        hooks.host_in_peft(model, "AdaLoraCallback")

    def on_train_begin(self, args: Any, state: TrainerState, *_: Any, **given: Any) -> None:
        """Replace a `total_step` of "auto" by the number of steps that Trainer will make.

        Raises:
            CheckpointError: FSDP2 or DeepSpeed has divided the model, and the checkpoint to resume
                from has no training state.
            ParallelismError: Trainer uses DeepSpeed with another stage than ZeRO-1 and ZeRO-2, or
                divides injected adapters.
            RunError: the adapter is loaded for inference, `optimizer` does not hold all of its
                factors, or a hook allocates its ranks already.
        """
        model, optimizer = given.get("model"), given.get("optimizer")
        # Trainer.add_callback and model_init come after on_init_end.
        tuner = hooks.host_in_peft(model, "AdaLoraCallback")
        zero = hooks.zero_optimizer(optimizer)
        _refuse_division(args, model, is_in_zero=zero is not None)
        learning_adapters(tuner, "AdaLoraCallback")  # there are some
        if state.global_step:
            folder = self.checkpoint or _checkpoint_of(args, state.global_step)
            checkpoints.resume(model, folder, is_in_zero=zero is not None)
        for adapter in tuner.trained_adapters():
            hooks.refuse_second_hook(adapter)
            if optimizer is not None and zero is None:
                adapter.refuse_optimizer(getattr(optimizer, "optimizer", optimizer))
            adapter.run.driver = self
            adapter.run.saves_are_checkpoints = True
        if zero is not None:
            self._zero = hooks.ZeroHook(zero, tuner)
        hooks.bind_total_step(tuner, state.max_steps, "Trainer")

    def on_step_begin(
        self, args: TrainingArguments, *_: Any, model: Any = None, optimizer: Any = None, **__: Any
    ) -> None:
        """Begin an optimizer step: its first micro-batch comes next."""
        tuner = host_of(model, "AdaLoraCallback")
        for adapter in tuner.trained_adapters():
            if adapter.run.driver not in (self, self._zero):
                ranks = f"the ranks of the adapter {adapter.name!r}"
                refuse(TwoHooks, f"two AdaLoraCallbacks allocate {ranks}")
        self._loss_scale = _loss_scale_of(optimizer)
        # Trainer.compute_loss multiplies losses that are normalised over the step by this number.
        processes = max(args.world_size, args.n_gpu) if args.average_tokens_across_devices else 1
        tuner.training_run.penalty.begin_step(multiplied_by=processes)

    def on_optimizer_step(self, args: Any, state: TrainerState, *_: Any, **given: Any) -> None:  # noqa: ARG002 - its signature
        """Allocate after the optimizer's step, before the gradients are cleared."""
        model, optimizer = given["model"], given.get("optimizer")
        # With fused optimizers, Trainer's default, accelerate reports no skipped step; but a scaler
        # that finds an overflow lowers its scale.
        is_lowered = _loss_scale_of(optimizer) < self._loss_scale
        if is_lowered or getattr(optimizer, "step_was_skipped", False):
            # Ignore the gradients of a skipped step; Trainer would clear them next.
            unwrapped(model).zero_grad()
        reshard(unwrapped(model))
        tuner = host_of(model, "AdaLoraCallback")
        if self._zero is None:  # whose hook allocates
            tuner.update_and_allocate(state.global_step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, *_: Any, model: object = None, **__: Any
    ) -> None:
        """Complete the checkpoint of a model that FSDP2 has divided."""
        if not checkpoints.is_divided(model):
            return
        folder = _checkpoint_of(args, state.global_step)
        unwrapped(model).save_pretrained(folder, save_training_state=True)  # type: ignore[operator]
        # With sharded files Trainer looks for the folder of the best checkpoint before it makes it.
        # Some processes or all then take an older one for the best.
        best_step = getattr(state, "best_global_step", None)
        if best_step and (best := _checkpoint_of(args, best_step)).is_dir():
            state.best_model_checkpoint = str(best)

    def on_log(self, args: Any, state: TrainerState, *_: Any, **given: Any) -> None:  # noqa: ARG002 - its signature
        """Add the allocation's numbers to a training log, and to the last one what the run was."""
        model, logs = given.get("model"), given.get("logs")
        if logs is None or not logs.keys() & {"loss", "train_runtime"}:
            return
        reshard(unwrapped(model))
        numbers = self._numbers(model)
        if "train_runtime" in logs:
            run = host_of(model, "AdaLoraCallback").run_report()
            numbers |= {
                "steps": run.steps,
                "allocations": run.allocations,
                "target_budget": run.target,
                "nonfinite_steps": run.nonfinite_steps,
                "run_findings": len(run.findings),
            }
        logs.update(numbers)
        # Trainer has already stored a copy of the logs.
        state.log_history[-1].update(numbers)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, *_: Any, model: object = None, **__: Any
    ) -> None:
        """Enforce the target budget, unless Trainer has loaded the best checkpoint."""
        reshard(unwrapped(model))
        tuner = host_of(model, "AdaLoraCallback")
        penalty = tuner.training_run.penalty
        penalty.is_first = penalty.latest = None  # nobody calls `begin_step` any more
        zero, self._zero = self._zero, None
        if zero is not None:
            zero.remove()
        for adapter in tuner.trained_adapters():
            adapter.run.driver = None
            adapter.run.saves_are_checkpoints = False
        if not (args.load_best_model_at_end and state.best_model_checkpoint):
            tuner.finalize()
            return
        best = Path(state.best_model_checkpoint)
        if states_in(best):
            checkpoints.resume(model, best, is_in_zero=zero is not None)
        for adapter in tuner.trained_adapters():
            warn_if_best_is_unpruned(adapter, state.best_model_checkpoint)

    # --- inside ---------------------------------------------------------------------------------

    def _numbers(self, model: object) -> dict[str, float]:
        tuner = host_of(model, "AdaLoraCallback")
        allocators = [each.allocator for each in tuner.trained_adapters() if each.allocator]
        with torch.no_grad():
            penalty = float(tuner.orthogonality_penalty())
        budget = sum(each.budget for each in allocators)
        return {
            "budget": budget,
            "mean_rank": budget / max(1, sum(len(each.matrices) for each in allocators)),
            "phase": max((_PHASE_NUMBERS[each.phase] for each in allocators), default=0),
            "orthogonality": penalty,
            "skipped_entries": sum(each.statistics.skipped_entries for each in allocators),
        }


def _loss_scale_of(optimizer: Any) -> float:
    """Return the scale of the fp16 scaler of accelerate's `optimizer`; 0 without one."""
    scaler = getattr(optimizer, "scaler", None)
    return 0.0 if scaler is None else float(scaler.get_scale())


def _checkpoint_of(args: TrainingArguments, step: int) -> Path:
    return Path(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{step}")


def _refuse_division(args: TrainingArguments, model: object, *, is_in_zero: bool) -> None:
    uses_deepspeed = args.deepspeed or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    if uses_deepspeed and not is_in_zero:
        raise ParallelismError(
            "AdaLoraCallback: DeepSpeed with this stage of ZeRO hides gradients from the "
            "allocator; use stage 1 or 2, or train with DDP"
        )
    if TUNER in vars(unwrapped(model)) and checkpoints.is_divided(model):
        raise ParallelismError(
            "AdaLoraCallback: Trainer cannot resume injected adapters that FSDP2 has divided; make "
            "the model with get_peft_model, or train with DDP"
        )
