"""Report findings of a run, as warnings or as errors, and refuse what only wastes one."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import distributed, nn

from adalora_core.config.rules import RULES, runs
from adalora_core.config.rules.base import Rule
from adalora_core.floor.errors import RunError, RunWarning
from adalora_core.nn import AdaLoraLayer
from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER
from adalora_core.sharding import is_distributed

_INSIDE = frozenset({"accelerate", "adalora_core", "contextlib", "peft", "torch", "transformers"})
"""Packages between the line of a user's script and a finding."""

_ignored: set[str] = set()


def ignore_run_findings(*codes: str) -> None:
    """Ignore the findings `codes` of all runs of this process; without codes, all of them.

    An ignored finding is neither a warning nor an error. The filters of `warnings` work too, for
    one code, `filterwarnings("ignore", "ADA803")`, or by category, `RunWarning`.

    Raises:
        ValueError: there is no rule of this code.

    Example:
        >>> import adalora_core
        >>> adalora_core.ignore_run_findings("ADA803")
    """
    known = {rule.code for rule in RULES if rule.needs == "run"}
    if unknown := sorted(set(codes) - known):
        raise ValueError(
            f"ignore_run_findings: there is no rule {unknown[0]!r} of runs; there are "
            f"{min(known)} to {max(known)}"
        )
    _ignored.update(codes or known)


def report(found: MutableMapping[str, str], rule: type[Rule], seen: str) -> None:
    """Warn of what a run has done, once per rule; only the first process of several warns.

    `found` has the messages of the run so far, by code, and `seen` what was seen, with numbers.
    """
    if rule.code in found or rule.code in _ignored:
        return
    found[rule.code] = seen
    if not (is_distributed() and distributed.get_rank()):
        warnings.warn(text_of(rule, seen), RunWarning, stacklevel=frames_inside())


def refuse(rule: type[Rule], seen: str) -> None:
    """Raise the error of a run that can only waste time, unless its code is ignored."""
    if rule.code not in _ignored:
        raise RunError(text_of(rule, seen))


def text_of(rule: type[Rule], seen: str) -> str:
    """Return the text of a warning or an error."""
    return f"{rule.code}: {seen}. To do: {rule.hint} (adalora rule {rule.code})"


def frames_inside() -> int:
    """Return the stack level of the first frame of a script, seen from the caller."""
    frame, level = sys._getframe(2), 2  # noqa: SLF001 - skip_file_prefixes came with Python 3.12
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    return level


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
            base = f"the base model {type(model).__name__} carries adapters already"
            refuse(runs.AdaptedTwice, f"{base}: {path or 'it'} is of type {type(module).__name__}")
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
