"""Name what a configuration does not reach: entries that match nothing, usual targets, hints."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from peft.utils.other import get_pattern_key

from adalora_core.config.fields.known_modules import kind_of, usual_targets
from adalora_core.floor.module_selection import endings, is_all_linear

if TYPE_CHECKING:
    from adalora_core.checker.plan.modules import BaseModel, Injected, Kind, Module
    from adalora_core.config.fields.block import Block

_NAMES_SHOWN = 12
_PATHS_SHOWN = 3
_SHOWN_KINDS: dict[Kind, str] = {
    "linear": "linear layers", "convolution": "convolutions", "embedding": "embeddings",
}  # fmt: skip
_NAMES_COMPARED = 200
"""Names of the model, the most frequent ones, that may be meant by a name that matches nothing."""


def notes_of(block: Block, config: Any, found: Injected) -> Iterator[str]:
    """Yield what PEFT ignores without a word, and what it put in place of a value.

    `config` is the configuration as PEFT changed it.
    """
    given, targets = block["target_modules"], config.target_modules or ()
    names = [each.path for each in found.adapted]
    if given is None and targets:
        shown = targets if isinstance(targets, str) else sorted(targets)
        yield f"target_modules: {shown!r}, the default for the model type"
    parameters = set(getattr(config, "target_parameters", None) or ())
    if added := sorted(parameters.difference(block["target_parameters"] or ())):
        yield f"experts are one parameter in the model: PEFT adapts {', '.join(added)} instead"
        kept = ", ".join(sorted(targets)) if not isinstance(targets, str) else targets
        if isinstance(given, str) and not is_all_linear(given):
            yield f"target_modules: PEFT replaces the expression by {kept or 'nothing'}"
    elif isinstance(given, list):
        yield from _idle_targets(given, config, names, found.model)
    yield from _idle_settings(block, config, names, found)


def _idle_targets(
    given: Iterable[str], config: Any, names: Iterable[str], model: BaseModel
) -> Iterator[str]:
    reached = {end for name in names for end in endings(name)}
    listed = None
    for index, name in enumerate(given):
        if name in reached:
            continue
        if _matches(config, model.modules, target_modules=[name]):
            yield f"target_modules[{index}] {name!r} is excluded, copied, or in no asked layer"
            continue
        listed = listed or names_of(model)
        advice = "write names, a list holds no regular expressions; "
        if not _is_expression(name):
            near = _near([name], model)
            advice = f"did you mean {json.dumps(near)}? " if near else ""
        yield f"target_modules[{index}] {name!r} matches no module; {advice}{listed}"


def _matches(config: Any, paths: Iterable[str], **values: Any) -> bool:
    """Return whether PEFT adapts any of the paths, by its targets and the given fields alone."""
    alone = copy.copy(config)
    every = {"exclude_modules": None, "modules_to_save": None, "layers_to_transform": None}
    for name, value in (every | values).items():
        setattr(alone, name, value)
    return any(check_target_module_exists(alone, path) for path in paths)


def _idle_settings(
    block: Block, config: Any, names: Collection[str], found: Injected
) -> Iterator[str]:
    """Yield a note for each entry of the other fields that means nothing for the model."""
    excluded = block["exclude_modules"] or ()
    if isinstance(excluded, str):
        is_used = _matches(config, found.model.modules, target_modules=excluded)
        idle = [] if is_used else [excluded]
    else:
        ends = {end for path in found.model.modules for end in endings(path)}
        idle = [name for name in excluded if name not in ends]
    yield from (f"exclude_modules: {name!r} matches no module" for name in idle)
    layers = block["layers_to_transform"]
    for layer in [layers] if isinstance(layers, int) else layers or ():
        if not _matches(config, names, layers_to_transform=layer):
            yield f"layers_to_transform: no target is in layer {layer}"
    for field in ("rank_pattern", "alpha_pattern") if block.is_lora else ():
        keys = list(block[field] or ())
        used = {get_pattern_key(keys, name) for name in names} if keys else set()
        yield from (
            f"{field}: {key!r} gives no module its value" for key in keys if key not in used
        )
    trained = [name for name in found.trained or () if ".modules_to_save." in name]
    for name in block["modules_to_save"] or ():
        if not any(f"{name}.modules_to_save." in each for each in trained):
            yield f"modules_to_save: the model has no {name!r}; --class names a class with it"


def missed(found: Injected) -> Iterator[Module]:
    """Yield the linear layers that PEFT adapts by default for the architecture, and not here."""
    adapted, model = {each.path for each in found.adapted}, found.model
    linear = [each for each in model.of_kind("linear") if not model.is_output_head(each)]
    usual = set(_usual(model))
    return (each for each in linear if each.name in usual and each.path not in adapted)


def _usual(model: BaseModel) -> list[str]:
    names = {each.name for each in model.of_kind("linear") if not model.is_output_head(each)}
    by_type = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model.model_type or "")
    if isinstance(by_type, list) and names.issuperset(by_type):
        return list(by_type)
    return usual_targets(names, model.model_type)


def hint_without(field: str, model: BaseModel) -> str:
    """Return the hint on a field without which the configuration is accepted."""
    hint = f"the configuration is accepted without {field}"
    layers = {int(n) for path in model.modules for n in re.findall(r"\.(\d+)(?=\.)", f"{path}.")}
    if field == "layers_to_transform" and layers:
        hint += f"; the layers of the model are {min(layers)} to {max(layers)}"
    return hint


def hint_of(block: Block, model: BaseModel, is_taken: Callable[[str | list[str]], bool]) -> str:
    """Return what to write instead of what PEFT refuses; proposed targets are taken by PEFT."""
    targets = block["target_modules"]
    paths = [each.path for each in model.of_kind("linear", "convolution")]
    if isinstance(targets, str) and not is_all_linear(targets):
        if is_taken(f".*({targets})"):
            return f'a string must match a whole path: write ".*({targets})" or a list of names'
        shown = ", ".join(paths[:_PATHS_SHOWN]) or "none"
        return f"write an expression for paths such as {shown}"
    names = targets if isinstance(targets, list) else []
    advice = "write names, a list holds no regular expressions; "
    if not any(map(_is_expression, names)):
        near = [] if any(map(kind_of, names)) else _near(names[:8], model)
        advice = ""
        if near and is_taken(near):
            advice = f"did you mean {json.dumps(near)}? "
        elif (usual := _usual(model)) and is_taken(usual):
            advice = f"write the usual targets of the architecture, {json.dumps(usual)}; "
    return advice + names_of(model)


def _is_expression(name: str) -> bool:
    return re.search(r"[\\^$*+?{}\[\]|()]", name) is not None


def _near(names: Iterable[str], model: BaseModel) -> list[str]:
    """Return the model's names that misspelt ones resemble by their last part, or begin.

    The name of a layer of another architecture is not misspelt.
    """
    counts = Counter(module.name for module in model.of_kind("linear", "convolution"))
    known = sorted(name for name, _ in counts.most_common(_NAMES_COMPARED))
    near: set[str] = set()
    for name in names:
        last = name.rpartition(".")[2]
        begun = [each for each in known if f"{each}_".startswith(f"{last}_")]
        is_misspelt = not begun and kind_of(last) is None
        near.update(difflib.get_close_matches(last, known, 1) if is_misspelt else begun)
    return sorted(near)


def names_of(model: BaseModel) -> str:
    """List the names of the model's modules by kind, the most frequent ones first."""
    lists = []
    for kind, what in _SHOWN_KINDS.items():
        counts = Counter(module.name for module in model.of_kind(kind))
        shown = [f"{name} ({count})" for name, count in counts.most_common(_NAMES_SHOWN)]
        more = f" and {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
        if shown:
            lists.append(f"the {what} {', '.join(shown)}{more}")
    return f"the model has {'; '.join(lists) or 'no module that can be adapted'}"
