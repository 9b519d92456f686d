"""Refuse names and options that models of PEFT alone have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER

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
