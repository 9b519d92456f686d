"""Callbacks that the recipes of this package hand to Trainer."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class AdaptiveRank(TrainerCallback):
    """Reallocate the ranks of AdaLoRA while the gradients exist.

    Trainer zeroes the gradients before ``on_step_end``, so this listens to
    ``on_optimizer_step``.
    """

    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Update the importance scores.

        Parameters
        ----------
        args : TrainingArguments
            Not used.
        state : TrainerState
            Gives the number of updates so far.
        control : TrainerControl
            Not used.
        """
        del args, control
        model = kwargs.get("model")
        tuner = getattr(model, "base_model", None)
        allocate = getattr(tuner, "update_and_allocate", None)
        if allocate is None:
            return
        allocate(state.global_step)


class RankLog(TrainerCallback):
    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        pattern = model.peft_config["default"].rank_pattern if model is not None else None
        if logs is not None and pattern:
            logs["kept"] = sum(sum(bits) for bits in pattern.values())
