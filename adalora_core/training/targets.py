"""Find the modules of a model that a configuration means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from adalora_core.config.model import AdaLoraConfig
from adalora_core.floor import module_selection
from adalora_core.floor.errors import TargetError
from adalora_core.floor.matching import Matcher
from adalora_core.floor.module_selection import DEFAULT_TARGETS, ModuleSelection, ends_with
from adalora_core.nn import AdaLoraLayer, ModulesToSave, wrap_layer
from adalora_core.nn.wrapping import linear_sizes

_OF_PEFT = ("layer_replication", "ensure_weight_tying", "trainable_token_indices")

_CONTAINERS = (nn.ModuleDict, nn.ModuleList, nn.ParameterDict, nn.ParameterList)


@dataclass(frozen=True, slots=True)
class Targets:
    """The modules of a model that a configuration means: adapted layers, and paths to train whole.

    The layers are by path, in the model's order, and not part of the model yet.
    """

    layers: dict[str, AdaLoraLayer]
    saved: list[str]


def find_targets(model: nn.Module, config: AdaLoraConfig) -> Targets:
    """Return the modules of `model` that `config` asks to adapt or to train whole."""
    paths = resolve_targets(model, config)
    layers = {path: wrap_layer(model.get_submodule(path), path) for path in paths}
    return Targets(layers, resolve_saved_modules(model, config))


def refuse_unsupported(config: AdaLoraConfig) -> None:
    """Refuse a configuration with a field that models of PEFT alone follow."""
    for field in _OF_PEFT:
        if getattr(config, field):
            raise ValueError(
                f"{field}: adalora_core.get_peft_model does not follow it; unset it, or make the "
                "model with adalora_core.peft"
            )


def resolve_targets(model: nn.Module, config: AdaLoraConfig) -> list[str]:
    """Return the paths of the modules that `config` asks to adapt, in the model's order.

    As in PEFT, a list matches whole names or endings behind a dot, a string is a regular expression
    over the whole path, `"all-linear"` means every linear module but the output head, and null
    means the default of the model's type.

    Raises:
        TargetError: nothing matches, the model's type has no default, or an expression takes too
            long.
    """
    wanted = _wanted_modules(model, config)
    saved = module_selection.saved_module_names(config.modules_to_save, config.task_type)
    layers = config.layers_to_transform, config.layers_pattern
    selection = ModuleSelection(wanted, config.exclude_modules, *layers, saved)
    paths = [path for path, _ in candidates(model)]
    matched = [path for path in paths if selection.includes(path)]
    targets = [path for path in matched if not selection.excludes(path)]
    if targets:
        return targets
    described = f"the regular expression {wanted!r}" if isinstance(wanted, str) else repr(wanted)
    excluded = f" ({len(matched)} matched, all of them excluded)" if matched else ""
    names = {path.rpartition(".")[2] for path in paths if _is_linear(model.get_submodule(path))}
    raise TargetError(
        f"target_modules: {described} matches no module of {type(model).__name__}"
        f"{excluded}; linear modules there are called: {', '.join(sorted(names)[:8]) or 'none'}"
    )


def resolve_saved_modules(model: nn.Module, config: AdaLoraConfig) -> list[str]:
    """Return the paths of the modules to train whole; as in PEFT, a name may match none.

    A copy of a module holds copies of all modules inside, so that those need none of their own.

    Raises:
        TargetError: a module cannot be trained whole.
    """
    wanted = module_selection.saved_module_names(config.modules_to_save, config.task_type)
    names = module_selection.PathEnds(wanted)
    found = {path: each for path, each in candidates(model) if names.end_of(path) is not None}
    saved = list(module_selection.outermost(found))
    for path in saved:
        module = found[path]
        is_adapted = any(isinstance(each, AdaLoraLayer) for each in module.modules())
        if is_adapted or isinstance(module, _CONTAINERS):
            what = "has an adapter" if is_adapted else "is only a container"
            raise TargetError(
                f"modules_to_save: {names.end_of(path)!r} means {path!r}, which {what} and cannot "
                "be trained whole; name other modules, a name means every path that ends with it"
            )
    return saved


def unmatched_entries(config: Any, paths: Sequence[str]) -> list[str]:
    """Return a message for each entry of `config` that selects none of the modules `paths`."""
    matcher = Matcher()
    names = sorted({path.rpartition(".")[2] for path in paths})
    messages = []
    for field, entries in _selecting_entries(config):
        is_text = isinstance(getattr(config, field), str)
        for entry in entries:
            try:
                selects = any(_selects(field, entry, path, matcher, is_text) for path in paths)
            except re.error as error:
                problem = f"{entry!r} is not a valid regular expression: {error}"
                raise TargetError(f"{field}: {problem}; correct or remove it") from None
            if not selects:
                near = difflib.get_close_matches(entry.rpartition(".")[2], names)
                meant = " or ".join(map(repr, near))
                hint = f"did you mean {meant}?" if near else "no similar name"
                messages.append(f"{field} {entry!r} matches no module ({hint})")
    layers = ModuleSelection((), None, config.layers_to_transform, config.layers_pattern)
    found = [layers.layer_of(path) for path in paths if layers.wanted_layers]
    there = {each for each in found if each is not None}
    missing = [each for each in layers.wanted_layers if there and each not in there]
    return messages + [
        f"layers_to_transform {each} matches no module (layers {min(there)} to {max(there)} do)"
        for each in missing
    ]


def _selecting_entries(config: Any) -> Iterable[tuple[str, list[str]]]:
    for field in ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern"):
        value = getattr(config, field)
        if field == "layers_pattern" and config.layers_to_transform in (None, []):
            continue  # as in PEFT, nothing reads it then
        if isinstance(value, str):
            # An expression in target_modules that matches nothing is an error.
            yield field, [] if field == "target_modules" else [value]
        else:
            # PEFT adds the heads of the task to modules_to_save, whether the model has them or not.
            heads = module_selection.heads_of(config.task_type)
            yield field, sorted(set(value or ()).difference(heads))


def _selects(field: str, entry: str, path: str, matcher: Matcher, is_text: bool) -> bool:
    if field == "layers_pattern":
        expression = rf"(?:^|.*?\.){entry}\.(\d+)(?:\.|$)"
        return matcher.find("match", expression, path, field) is not None
    if is_text:
        return matcher.matches(entry, path, field)
    return path.endswith(entry) if field == "modules_to_save" else ends_with(path, (entry,))


def _wanted_modules(model: nn.Module, config: AdaLoraConfig) -> list[str] | str:
    targets: Any = config.target_modules
    if module_selection.is_all_linear(targets):
        get_head = getattr(model, "get_output_embeddings", None)
        head = get_head() if callable(get_head) else None
        # The heads of a task are trained whole, which leaves them out as for any other targets.
        found = [path for path, each in candidates(model) if each is not head and _is_linear(each)]
        if found:
            return found
        raise TargetError(f"target_modules: {type(model).__name__} has no linear module to adapt")
    if targets is None:
        described: Any = getattr(model, "config", None)
        read = described.get if isinstance(described, dict) else partial(getattr, described)
        model_type = read("model_type", None)
        if model_type not in DEFAULT_TARGETS:
            raise TargetError(
                "target_modules: please specify them; there is no default for the model type "
                f"{model_type!r} (defaults exist for {', '.join(sorted(DEFAULT_TARGETS))})"
            )
        targets = DEFAULT_TARGETS[model_type]
    return targets if isinstance(targets, str) else list(targets)


def _is_linear(module: nn.Module) -> bool:
    base = module.base_layer if isinstance(module, AdaLoraLayer) else module
    return linear_sizes(base) is not None and not list(base.children())


def candidates(
    model: nn.Module, adapted: tuple[type, ...] = (AdaLoraLayer, ModulesToSave)
) -> Iterable[tuple[str, nn.Module]]:
    """Yield the modules of the base model, without those inside adapted layers and copies."""
    inside_layers: list[str] = []
    for path, module in model.named_modules():
        if not path or any(path.startswith(prefix) for prefix in inside_layers):
            continue
        if isinstance(module, adapted):
            inside_layers.append(f"{path}.")
        yield path, module
