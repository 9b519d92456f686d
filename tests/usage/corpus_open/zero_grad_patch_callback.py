"""Callbacks of the tuning toolkit."""
import types
from typing import TYPE_CHECKING

from transformers import TrainerCallback

if TYPE_CHECKING:
    from .arguments import TunerArguments


class AdaptiveRankCallback(TrainerCallback):
    """For train_type == "adalora"."""

    def __init__(self, args: "TunerArguments"):
        self.done_steps = 0
        self.args = args

    def on_train_begin(self, _args, state, control, **kwargs):
        if self.args.train_type != "adalora":
            return
        model = kwargs["model"]
        model.peft_config["default"].total_step = state.max_steps

        def allocate_then_zero(module, *a, **kw):
            module.update_and_allocate(self.done_steps + 1)
            module._plain_zero_grad(*a, **kw)

        model._plain_zero_grad = model.zero_grad
        model.zero_grad = types.MethodType(allocate_then_zero, model)

    def on_step_end(self, _args, state, control, **kwargs):
        self.done_steps = state.global_step


class FreezeLayersCallback(TrainerCallback):
    def __init__(self, every: int, keep: int):
        self.every = every
        self.keep = keep

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every == 0:
            layers = model.base_model.model.model.layers
            for i, layer in enumerate(layers):
                layer.requires_grad_(i >= len(layers) - self.keep)


EXTRA_CALLBACKS = {"adalora": AdaptiveRankCallback, "freeze": FreezeLayersCallback}
