"""Name the calls, classes and hooks of the frameworks that train."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Framework = Literal["trainer", "callback", "lightning"]

ALLOCATE = "update_and_allocate"
_TASKS = (
    "CausalLM", "Seq2SeqLM", "SequenceClassification", "TokenClassification", "QuestionAnswering",
    "FeatureExtraction",
)  # fmt: skip
WRAPPERS = {
    **dict.fromkeys(("get_peft_model", "AdaLoraModel", "PeftModel"), (0, 1)),
    **{f"PeftModelFor{task}": (0, 1) for task in _TASKS},
    "inject_adapter_in_model": (1, 0),
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

_NO_GRADIENT = "no gradient is left"
_NOT_STEPPED = "the optimizer has not made its step, and brings dropped triplets back"
NEVER_CALLED = "Trainer does not call a method of this name"
_BEFORE_RUN = "it is called once, before the first step"

_WRONG: dict[Framework, dict[str, str]] = {
    "callback": {
        "Trainer has dropped the gradients before it": "on_step_end",
        _NOT_STEPPED: "on_pre_optimizer_step",
        "the step of this batch is not made and its gradients are not computed": "on_step_begin",
        "it is called between micro-batches, before the optimizer makes a step": "on_substep_end",
        NEVER_CALLED: "after_optimizer_step on_batch_end "
        "on_optimizer_step_end on_post_optimizer_step on_train_batch_end",
        _BEFORE_RUN: "on_train_begin",
        f"it is called once, and {_NO_GRADIENT}": "on_train_end",
        f"it is called once per epoch, and {_NO_GRADIENT}": "on_epoch_begin on_epoch_end",
        _NO_GRADIENT: "on_log on_evaluate on_save on_prediction_step",
    },
    "trainer": {
        "it is called for each micro-batch, before the optimizer makes its step": "training_step",
        "it is called for each micro-batch, before the gradients are computed": "compute_loss",
        NEVER_CALLED: "optimizer_step on_optimizer_step on_step_end on_train_batch_end",
        _NO_GRADIENT: "log evaluate evaluation_loop prediction_step save_model "
        "_maybe_log_save_evaluate",
    },
    "lightning": {
        "the step of this batch is not made": "on_train_batch_start",
        "the gradients are not computed yet": "on_before_backward",
        "it is called for batches that are not trained on": "validation_step",
        "the gradients of the batch are not computed yet": "training_step forward",
        "Lightning calls it between the forward and the backward of the next batch, which then "
        "fails on a changed tensor": "on_before_zero_grad optimizer_zero_grad",
        _NOT_STEPPED: "on_after_backward on_before_optimizer_step",
        "it is called once per epoch": "training_epoch_end on_train_epoch_start "
        "on_train_epoch_end on_epoch_end",
        _BEFORE_RUN: "on_train_start on_fit_start",
        "it is called once": "on_train_end on_fit_end",
        "it is called after an evaluation": "on_validation_epoch_end on_validation_end",
    },
}
HOOKS = {
    framework: {name: why for why, names in wrong.items() for name in names.split()}
    for framework, wrong in _WRONG.items()
}
"""Hooks and methods in which each framework makes a call wrong, and why."""

ONLY_LIGHTNING = frozenset({
    "on_before_zero_grad", "optimizer_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_start", "on_train_epoch_end", "training_epoch_end",
})  # fmt: skip
"""Hooks that no other framework has, so that a mixin without a base is known by them."""

CONSTANT_NAMES = frozenset({
    "rank", "local_rank", "world_rank", "r", "target_r", "init_r", "lora_r", "total_step",
    "total_steps", "max_steps", "num_training_steps", "max_train_steps", "num_epochs",
    "num_train_epochs", "world_size", "tinit", "tfinal", "deltaT",
})  # fmt: skip
"""Names whose value does not change during a run."""
EPOCH_NAMES = frozenset({"epoch", "current_epoch", "epoch_idx", "epochs_trained"})
SETTINGS = frozenset({"args", "cfg", "config", "hparams", "FLAGS", "opt", "training_args"})
"""Objects that hold settings."""

OF_ONE_STEP = re.compile("optim|hook|callback|handler|listener", re.IGNORECASE)
"""What a loop inside of one step runs over."""
KINDS: dict[str, Literal["backward", "merge", "wrap", "zero"]] = {
    **dict.fromkeys(("backward", "manual_backward"), "backward"),
    **dict.fromkeys(("merge_and_unload", "unload", "merge_adapter"), "merge"),
    **dict.fromkeys((*WRAPPERS, "add_adapter"), "wrap"),
    "zero_grad": "zero",
}
"""Events that are known by the name of what is called."""
TRAINS = frozenset({"train", "fit", "hyperparameter_search"})
"""Methods of trainers that train."""
_EVENTS = TRAINS | KINDS.keys() | {ALLOCATE, "eval", "optimizer_step", "step"}


@lru_cache(maxsize=4096)
def may_be_an_event(name: str) -> bool:
    """Return whether a call of a function of this name may be an event."""
    return name in _EVENTS or "optim" in name.lower() or OPTIMIZER.match(name) is not None
