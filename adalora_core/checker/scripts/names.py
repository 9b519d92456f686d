"""Name the calls, classes and hooks of the frameworks that train."""

from __future__ import annotations

import re
from typing import Literal

Framework = Literal["trainer", "callback", "lightning"]

ALLOCATE = "update_and_allocate"
WRAPPERS = {
    "get_peft_model": (0, 1),
    "inject_adapter_in_model": (1, 0),
    "AdaLoraModel": (0, 1),
    "PeftModel": (0, 1),
    "PeftModelForCausalLM": (0, 1),
    "PeftModelForSeq2SeqLM": (0, 1),
    "PeftModelForSequenceClassification": (0, 1),
    "PeftModelForTokenClassification": (0, 1),
    "PeftModelForQuestionAnswering": (0, 1),
    "PeftModelForFeatureExtraction": (0, 1),
}
"""Functions that add an adapter, with the places of the model and of the configuration."""

OPTIMIZER = re.compile(
    r"(?=[A-Z])\w*(?:Adam|SGD|RMSprop|Ada[gf]|Adadelta|Lion|LBFGS|Prodigy|Muon|Lamb|LAMB)\w*$"
)
"""A class of optimizers, without the modules before it."""

KNOWN_MODULES = frozenset({
    "transformers", "trl", "sentence_transformers", "setfit", "lightning", "pytorch_lightning",
    "accelerate", "peft", "torch", "wandb", "optuna", "ray", "mlflow", "diffusers", "adapters",
    "pl", "L",
})  # fmt: skip
"""Packages whose trainers and callbacks never allocate."""

CALLBACK_HOOKS: dict[str, str] = {
    "on_step_end": "Trainer has dropped the gradients before it",
    "on_pre_optimizer_step": (
        "the optimizer has not made its step, and brings dropped triplets back"
    ),
    "on_step_begin": "the step of this batch is not made and its gradients are not computed",
    "on_substep_end": "it is called between micro-batches, before the optimizer makes a step",
    "on_epoch_begin": "it is called once per epoch, and no gradient is left",
    "on_epoch_end": "it is called once per epoch, and no gradient is left",
    "on_train_begin": "it is called once, before the first step",
    "on_train_end": "it is called once, and no gradient is left",
    "on_log": "no gradient is left",
    "on_evaluate": "no gradient is left",
    "on_save": "no gradient is left",
    "on_prediction_step": "no gradient is left",
}
"""Hooks of a TrainerCallback in which a call is wrong, and why."""

TRAINER_METHODS: dict[str, str] = {
    "training_step": "it is called for each micro-batch, before the optimizer makes its step",
    "compute_loss": "it is called for each micro-batch, before the gradients are computed",
    "log": "no gradient is left",
    "evaluate": "no gradient is left",
    "evaluation_loop": "no gradient is left",
    "prediction_step": "no gradient is left",
    "save_model": "no gradient is left",
    "_maybe_log_save_evaluate": "no gradient is left",
}
"""Methods of a Trainer in which a call is wrong, and why."""

LIGHTNING_HOOKS: dict[str, str] = {
    "training_step": "the gradients of the batch are not computed yet",
    "forward": "the gradients of the batch are not computed yet",
    "on_train_batch_start": "the step of this batch is not made",
    "on_before_zero_grad": (
        "Lightning calls it between the forward and the backward of the next batch, which then "
        "fails on a changed tensor"
    ),
    "optimizer_zero_grad": (
        "Lightning calls it between the forward and the backward of the next batch, which then "
        "fails on a changed tensor"
    ),
    "on_before_backward": "the gradients are not computed yet",
    "on_after_backward": "the optimizer has not made its step, and brings dropped triplets back",
    "on_before_optimizer_step": (
        "the optimizer has not made its step, and brings dropped triplets back"
    ),
    "training_epoch_end": "it is called once per epoch",
    "on_train_epoch_start": "it is called once per epoch",
    "on_train_epoch_end": "it is called once per epoch",
    "on_epoch_end": "it is called once per epoch",
    "on_train_start": "it is called once, before the first step",
    "on_fit_start": "it is called once, before the first step",
    "on_train_end": "it is called once",
    "on_fit_end": "it is called once",
    "validation_step": "it is called for batches that are not trained on",
    "on_validation_epoch_end": "it is called after an evaluation",
    "on_validation_end": "it is called after an evaluation",
}
"""Hooks of Lightning in which a call is wrong, and why."""

ONLY_LIGHTNING = frozenset(LIGHTNING_HOOKS) & {
    "on_before_zero_grad", "optimizer_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_start", "on_train_epoch_end", "training_epoch_end",
}  # fmt: skip
"""Hooks that no other framework has, so that a mixin without a base is known by them."""

HOOKS: dict[Framework, dict[str, str]] = {
    "callback": CALLBACK_HOOKS,
    "trainer": TRAINER_METHODS,
    "lightning": LIGHTNING_HOOKS,
}

CONSTANT_NAMES = frozenset({
    "rank", "local_rank", "world_rank", "r", "target_r", "init_r", "lora_r", "total_step",
    "total_steps", "max_steps", "num_training_steps", "max_train_steps", "num_epochs",
    "num_train_epochs", "world_size", "tinit", "tfinal", "deltaT",
})  # fmt: skip
"""Names whose value does not change during a run."""
EPOCH_NAMES = frozenset({"epoch", "current_epoch", "epoch_idx", "epochs_trained"})
SETTINGS = frozenset({"args", "cfg", "config", "hparams", "FLAGS", "opt", "training_args"})
"""Objects that hold settings."""
