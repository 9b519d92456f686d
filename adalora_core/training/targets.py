"""Which modules of a model a configuration means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adalora_core.default_targets import DEFAULT_TARGETS
from adalora_core.errors import TargetError
from adalora_core.module_selection import (
    ModuleSelection,
    ends_with,
    is_all_linear,
    saved_module_names,
)
from adalora_core.nn import AdaLoraLayer, ModulesToSave, wrap_layer
from adalora_core.nn.wrapping import linear_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from adalora_core.contract import AdaLoraConfig

_UNSUPPORTED = {
    "layer_replication": "stacks shared layers, whose ranks could not be allocated separately",
    "trainable_token_indices": "trains rows of an embedding; name the embedding in modules_to_save",
    "ensure_weight_tying": "ties copies of tied layers; leave tied layers out of modules_to_save",
}


@dataclass(frozen=True, slots=True)
class Targets:
    """The modules of a model that a configuration means.

    Attributes:
        layers: what adapts them, by path and in the model's order; not in the model yet.
        saved: paths of the modules to train whole.
    """

    layers: dict[str, AdaLoraLayer]
    saved: list[str]


def find_targets(model: nn.Module, config: AdaLoraConfig) -> Targets:
    """Return the modules of `model` that `config` asks to adapt or to train whole.

    Raises:
        TargetError: a target cannot be adapted, nothing matches, or a module to train whole does
            not exist.
    """
    paths = resolve_targets(model, config)
    saved = resolve_saved_modules(model, config)
    return Targets({path: wrap_layer(model.get_submodule(path), path) for path in paths}, saved)


def refuse_unsupported(config: AdaLoraConfig) -> None:
    """Refuse what PEFT does for a field and this package does not, rather than ignore it.

    Raises:
        ValueError: such a field is set.
    """
    for field, what in _UNSUPPORTED.items():
        if getattr(config, field):
            raise ValueError(
                f"{field}: not supported by adalora_core: it {what}, or train with PEFT"
            )


def resolve_targets(model: nn.Module, config: AdaLoraConfig) -> list[str]:
    """Return the paths of the modules that `config` asks to adapt, in the model's order.

    Matching is PEFT's: a list matches whole names or endings behind a dot, a string is a regular
    expression over the whole path, `"all-linear"` is every linear module but the output head, and
    null falls back to the table of the model's type.

    Raises:
        TargetError: nothing matches, or the model's type has no default.
    """
    wanted = _wanted_modules(model, config)
    selection = ModuleSelection(
        wanted,
        config.exclude_modules,
        config.layers_to_transform,
        config.layers_pattern,
        _saved_names(config),
    )
    candidates = list(_candidate_paths(model))
    matched = [path for path in candidates if selection.includes(path)]
    targets = [path for path in matched if not selection.excludes(path)]
    if targets:
        return targets
    excluded = f" ({len(matched)} matched, all of them excluded)" if matched else ""
    examples = ", ".join(_linear_names(model, candidates)[:8]) or "none"
    raise TargetError(
        f"target_modules: {_describe(wanted)} matches no module of {type(model).__name__}"
        f"{excluded}; linear modules there are called: {examples}"
    )


def _saved_names(config: AdaLoraConfig) -> list[str]:
    task = config.task_type
    return saved_module_names(config.modules_to_save, getattr(task, "value", task))


def resolve_saved_modules(model: nn.Module, config: AdaLoraConfig) -> list[str]:
    """Return the paths of the modules to train whole.

    Raises:
        TargetError: a module that `modules_to_save` names does not exist.
    """
    paths = list(_candidate_paths(model))
    found = []
    for name in _saved_names(config):
        matches = [path for path in paths if ends_with(path, (name,))]
        if not matches and name in (config.modules_to_save or ()):
            raise TargetError(
                f"modules_to_save: no module of {type(model).__name__} is called {name!r}"
            )
        found += [path for path in matches if path not in found]
    return found


def _wanted_modules(model: nn.Module, config: AdaLoraConfig) -> list[str] | str:
    targets = config.target_modules
    if is_all_linear(targets):
        return _all_linear(model)
    if targets is not None:
        return targets if isinstance(targets, str) else list(targets)
    model_type = model_type_of(model)
    if model_type not in DEFAULT_TARGETS:
        raise TargetError(
            f"target_modules: please specify them; there is no default for the model type "
            f"{model_type!r} (defaults exist for {', '.join(sorted(DEFAULT_TARGETS))})"
        )
    default = DEFAULT_TARGETS[model_type]
    return default if isinstance(default, str) else list(default)


def model_type_of(model: nn.Module) -> str | None:
    """Return transformers' name of the architecture, None for other models."""
    config: Any = getattr(model, "config", None)
    if isinstance(config, dict):
        return config.get("model_type")
    return getattr(config, "model_type", None)


def _all_linear(model: nn.Module) -> list[str]:
    output_head = None
    get_head = getattr(model, "get_output_embeddings", None)
    if callable(get_head):
        output_head = get_head()
    heads = ("classifier", "score") if hasattr(model, "config") else ()
    names = [
        path
        for path, module in _candidates(model)
        if module is not output_head and _is_linear(module) and not ends_with(path, heads)
    ]
    if not names:
        raise TargetError(f"target_modules: {type(model).__name__} has no linear module to adapt")
    return names


def _is_linear(module: nn.Module) -> bool:
    base = module.base_layer if isinstance(module, AdaLoraLayer) else module
    return linear_sizes(base) is not None and not list(base.children())


def _candidates(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """Modules of the base model: what adapters and copies added is not a candidate."""
    inside_layers: list[str] = []
    for path, module in model.named_modules():
        if not path or any(path.startswith(prefix) for prefix in inside_layers):
            continue
        if isinstance(module, AdaLoraLayer | ModulesToSave):
            inside_layers.append(f"{path}.")
        yield path, module


def _candidate_paths(model: nn.Module) -> Iterable[str]:
    return (path for path, _ in _candidates(model))


def _linear_names(model: nn.Module, paths: list[str]) -> list[str]:
    names = {path.rpartition(".")[2] for path in paths if _is_linear(model.get_submodule(path))}
    return sorted(names)


def _describe(wanted: list[str] | str) -> str:
    return f"the regular expression {wanted!r}" if isinstance(wanted, str) else repr(wanted)
