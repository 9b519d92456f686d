"""Which modules of a given model a configuration adapts, and what it asks for in vain."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adalora_core.contract.fields.value_kinds import name_of_value
from adalora_core.default_targets import DEFAULT_TARGETS
from adalora_core.module_selection import (
    ModuleSelection,
    ends_with,
    is_all_linear,
    matches,
    saved_module_names,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from adalora_core.contract.fields.block import Block
    from adalora_core.contract.plan.modules import BaseModel, Module

_NAMES_SHOWN = 12
_PATHS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """A setting that this model cannot satisfy.

    Args:
        field: whose value it is.
        message: what was asked for and what there is.
        hint: what to do, with names that the model has.
        index: which entry of the value, if it is a list and one of its entries is meant.
    """

    field: str
    message: str
    hint: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Matched:
    """What a configuration means for a model.

    Args:
        matrices: the modules that get an adapter.
        saved: tensors trained whole, of `modules_to_save` and of the task's heads.
        problems: why it cannot be trained so.
        notes: what a reader should know besides.
    """

    matrices: tuple[Module, ...]
    saved: tuple[str, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def match(block: Block, model: BaseModel) -> Matched:
    """Match a configuration without errors against a model, as PEFT does when it is injected."""
    saved = saved_module_names(block["modules_to_save"], block["task_type"])
    tensors = tuple(name for name in model.tensors if _is_inside(name, saved))
    problems = list(_slow_expressions(block))
    if problems:
        return Matched((), tensors, tuple(problems), ())
    targets, notes, problem = _targets(block, model)
    if problem is not None:
        return Matched((), tensors, (problem,), ())
    selection = ModuleSelection(
        targets, block["exclude_modules"], block["layers_to_transform"], block["layers_pattern"],
        saved,
    )  # fmt: skip
    included = [module for path, module in model.modules.items() if selection.includes(path)]
    matrices = [module for module in included if not selection.excludes(module.path)]
    problems += _unmatched(block, targets, model)
    if not problems and not matrices:
        problems.append(_nothing_left(block, targets, included, model))
    problems += _unsuitable(matrices, block.runtime)
    notes += [
        f"modules_to_save: the file has no {name!r}; what the model makes anew is not counted"
        for name in saved
        if not any(_is_inside(tensor, (name,)) for tensor in model.tensors)
    ]
    exclude = block["exclude_modules"]
    if exclude and not any(matches(path, exclude) for path in model.modules):
        notes.append(f"exclude_modules: {_shown(exclude)} matches nothing")
    if block["layer_replication"]:
        notes.append("layer_replication: replicated layers are not counted")
    return Matched(tuple(matrices), tensors, tuple(problems), tuple(notes))


def _is_inside(name: str, modules: Iterable[str]) -> bool:
    return any(f".{module}." in f".{name}" for module in modules)


def _slow_expressions(block: Block) -> Iterator[Problem]:
    """Refuse to run what may take for ever; a report on it is rule slow-regex."""
    for field in ("target_modules", "exclude_modules", "layers_pattern"):
        value = block[field]
        for text in [value] if isinstance(value, str) else value or ():
            is_expression = isinstance(value, str) or field == "layers_pattern"
            if is_expression and block.judge_regex(text).slow is not None:
                yield Problem(
                    field,
                    f"{field} {text!r} repeats a repetition and may take exponential time: it is "
                    "not tried on the names of the model",
                    "repeat once: (a+)+ is a+ (adalora rule ADA502)",
                )


def _targets(
    block: Block, model: BaseModel
) -> tuple[str | Sequence[str], list[str], Problem | None]:
    targets = block["target_modules"]
    if is_all_linear(targets):
        linear = [
            module.path
            for module in model.of_kind("matrix", "packed")
            if not model.is_output_head(module)
        ]
        note = (
            "all-linear: every two-dimensional weight that is not named like an embedding or the "
            "output head; a header cannot tell more"
        )
        return linear, [note], None
    if targets is not None:
        return targets, [], None
    if model.model_type in DEFAULT_TARGETS:
        default = DEFAULT_TARGETS[model.model_type]
        return default, [f"target_modules: {_shown(default)}, by the model type"], None
    came = "no config.json that says it" if model.model_type is None else repr(model.model_type)
    message = f"target_modules is not set, and there is no default for the model's type: {came}"
    return (), [], Problem("target_modules", message, _what_is_there(model))


def _unmatched(block: Block, targets: str | Sequence[str], model: BaseModel) -> Iterator[Problem]:
    """Yield each pattern that matches no module at all, exclusions and layers apart."""
    configured = block["target_modules"]
    if isinstance(targets, str):
        if not any(matches(path, targets) for path in model.modules):
            message = f"target_modules {_shown(targets)} matches no module"
            yield Problem("target_modules", message, _hint_on_expression(targets, model))
        return
    for index, name in enumerate(configured if isinstance(configured, list) else ()):
        if not any(ends_with(path, (name,)) for path in model.modules):
            message = f"target_modules[{index}] {name!r} matches no module"
            yield Problem("target_modules", message, _hint_on_name(name, model), index)


def _hint_on_expression(expression: str, model: BaseModel) -> str:
    paths = [module.path for module in _adaptable(model)]
    if any(re.fullmatch(f".*(?:{expression})", path) for path in paths):
        return f'it is matched against whole paths: write ".*({expression})" or a list of names'
    return f"paths are written like {', '.join(paths[:_PATHS_SHOWN]) or 'none'}"


def _hint_on_name(name: str, model: BaseModel) -> str:
    known = {module.name for module in _adaptable(model)}
    near = difflib.get_close_matches(name, sorted(known), n=1)
    start = f"did you mean {near[0]!r}? " if near else ""
    if re.search(r"[\\^$*+?{}\[\]|()]", name):
        start = "in a list nothing is a regular expression; "
    return start + _what_is_there(model)


def _what_is_there(model: BaseModel) -> str:
    counts = Counter(module.name for module in _adaptable(model))
    shown = [f"{name} ({count})" for name, count in counts.most_common(_NAMES_SHOWN)]
    more = f" and {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
    return f"modules there: {', '.join(shown) or 'none that can be adapted'}{more}"


def _adaptable(model: BaseModel) -> list[Module]:
    return model.of_kind("matrix", "convolution", "packed")


def _nothing_left(
    block: Block, targets: str | Sequence[str], included: list[Module], model: BaseModel
) -> Problem:
    if included:
        message = f"all {len(included)} modules that target_modules matches are left out again"
        return Problem("exclude_modules", message, "exclude less, or save fewer modules whole")
    layers = block["layers_to_transform"]
    if isinstance(targets, str) or layers in (None, []):
        message = "target_modules matches no module that can be adapted"
        return Problem("target_modules", message, _what_is_there(model))
    indices = {
        int(found) for path in model.modules for found in re.findall(r"\.(\d+)(?=\.)", f"{path}.")
    }
    message = f"layers_to_transform {_shown(layers)} leaves none of the modules that are matched"
    there = f"indices there: {min(indices)} to {max(indices)}" if indices else "no layer has one"
    return Problem("layers_to_transform", message, there)


def _unsuitable(matrices: Iterable[Module], runtime: str) -> Iterator[Problem]:
    wrong = {
        "other": "holds no matrix of its own",
        "embedding": "is an embedding by its name, and AdaLoRA adapts none",
        "packed": "is packed by its quantisation, and its sizes are not in the header",
    }
    if runtime == "peft":
        wrong["convolution"] = "is a convolution, which PEFT's AdaLoRA does not adapt"
    for kind, what in wrong.items():
        found = [module.path for module in matrices if module.kind == kind]
        if found:
            others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            hint = "exclude it, or name its parts"
            if kind == "packed":
                hint = "give the weights of the model before it was quantised"
            elif kind == "convolution":
                hint = "exclude it, or plan for --runtime adalora-core"
            yield Problem(
                "target_modules", f"target_modules matches {found[0]}{others}, which {what}", hint
            )


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (str, list, tuple, int)) else name_of_value(value)
