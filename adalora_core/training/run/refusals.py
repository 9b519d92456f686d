"""Refuse models, forwards and backward passes that only waste a run."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adalora_core.config.rules import runs
from adalora_core.floor.errors import RunError
from adalora_core.nn import AdaLoraLayer
from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER
from adalora_core.training.run.reporting import refuse, text_of
from adalora_core.training.run.watch import RunWatch, Watcher


def refuse_other_than_module(model: object) -> None:
    """Refuse a base model that is not a module."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            "model: expected the base model, a torch.nn.Module, as the first argument, got "
            f"{type(model).__module__}.{type(model).__name__}; call get_peft_model(model, config) "
            "or from_pretrained(model, folder), in this order"
        )


def refuse_adapted(model: nn.Module) -> None:
    """Refuse a base model that carries adapters of this package or of PEFT."""
    for path, module in model.named_modules():
        is_adapted = isinstance(module, AdaLoraLayer) and len(module.lora_A) > 0
        # By name, since PEFT need not be installed.
        if is_adapted or type(module).__module__.partition(".")[0] == "peft":
            refuse(
                runs.AdaptedTwice,
                f"the base model {type(model).__name__} carries adapters already: "
                f"{path or 'it'} is of type {type(module).__name__}",
            )
            return


def refuse_adapter_names(arguments: Mapping[str, Any]) -> None:
    """Refuse a batch that mixes adapters."""
    if arguments.get("adapter_names") is not None:
        refuse(runs.AdapterNames, "forward got adapter_names, which AdaLoRA does not support")


def explain_backward(active: Sequence[str], loss: torch.Tensor) -> None:
    """Let `loss.backward()` explain why it fails, if nothing that is trained has led to `loss`.

    A graph that raises would change outputs that a critic or a head outside is trained on.
    """
    if torch.is_grad_enabled() and not loss.requires_grad:
        seen = f"backward pass, and every factor of the active adapters {[*active]} is frozen"
        loss.backward = functools.partial(_refuse_backward, seen)  # type: ignore[method-assign]


def _refuse_backward(seen: str, *_: Any, **__: Any) -> None:
    raise RunError(text_of(runs.NothingTrainable, seen))


class MergedWhileTrained(Watcher):
    """Refuse a backward pass through a forward of the merged model, which alone is not a fault."""

    rule = runs.TrainingWhileMerged

    def forward(self, run: RunWatch, layers: Mapping[str, AdaLoraLayer]) -> None:
        """Let the backward pass raise an error."""
        layer = next(iter(layers.values()), None)
        merged = getattr(layer, "merged_adapters", ())  # layers of this package stay unmerged
        if layer is not None and merged and torch.is_grad_enabled():
            _stop_failing(layer)  # not every forward calls the layer
            seen = f"backward pass while {run.adapter} is merged"
            layer.register_forward_hook(functools.partial(_refuse_output, seen))


def _stop_failing(layer: nn.Module) -> None:
    hooks = layer._forward_hooks  # noqa: SLF001 - a copy of the model has no handle
    for key, hook in list(hooks.items()):
        if getattr(hook, "func", None) is _refuse_output:
            del hooks[key]


def _refuse_output(seen: str, layer: Any, _inputs: Any, output: Any) -> Any:
    """Let a backward pass through this output of `layer`, if it is merged still, raise."""
    _stop_failing(layer)
    # An earlier forward may not have called the layer, and the fault is mended since.
    if not layer.merged_adapters or not torch.is_grad_enabled():
        return None
    source = torch.zeros((), requires_grad=True)
    return _Refused.apply(output, source, seen)  # type: ignore[no-untyped-call] # torch types it loosely


class _Refused(torch.autograd.Function):
    """The identity, with a backward pass that raises."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, _: torch.Tensor, seen: str) -> torch.Tensor:
        ctx.seen = seen
        # A view that a Function returns may not be written to, as nn.ReLU(inplace=True) does.
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        refuse(MergedWhileTrained.rule, ctx.seen)
        return gradient, None, None


OF_PEFT = frozenset({
    "active_adapter", "active_peft_config", "add_adapter", "add_weighted_adapter",
    "create_or_update_model_card", "delete_adapter", "disable_adapters", "enable_adapters",
    "get_nb_trainable_parameters", "load_adapter", "merge_adapter", "push_to_hub", "set_adapter",
    "unmerge_adapter",
})  # fmt: skip
"""Methods for several adapters, for merges that can be undone, and for the Hub.

A base model of transformers has some of these names, and would act without its adapter.
"""


def refusal(name: str) -> str:
    """Return the message for a name that this package's models do not have."""
    return (
        f"{name}: a model of adalora_core.get_peft_model has one adapter and a small API; make the "
        "model with adalora_core.peft, which has all of PEFT's"
    )


def refuse_options(
    function: str, options: Mapping[str, Any], adapter_name: str = DEFAULT_ADAPTER
) -> None:
    """Refuse options of PEFT's function of the same name, and another name of the adapter."""
    names = [*options, *["adapter_name"] * (adapter_name != DEFAULT_ADAPTER)]
    if names:
        raise TypeError(refusal(f"{function}({', '.join(names)})"))
