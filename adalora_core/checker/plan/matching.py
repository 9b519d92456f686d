"""Match a configuration against a model: the adapted modules, and settings that match nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adalora_core.checker.plan.mismatches import (
    Mismatch,
    absent_names,
    few,
    ignored_targets,
    names_of,
    no_target_matches,
    shown_value,
    unmatched_targets,
)
from adalora_core.config.rules.conflicts import NOT_TRAINED_HERE
from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.expressions.matching import Matcher
from adalora_core.floor.module_selection import (
    DEFAULT_TARGETS,
    ModuleSelection,
    PathEnds,
    is_all_linear,
    outermost,
    saved_module_names,
)
from adalora_core.floor.rank_pattern import SINGULAR_VALUES_SUFFIX

if TYPE_CHECKING:
    from adalora_core.checker.plan.modules import BaseModel, Kind, Module
    from adalora_core.config.fields.block import Block

Targets = str | Sequence[str]
"""One regular expression, or names of modules."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The result of matching a configuration against a model.

    The `matrices` get an adapter, and the tensors `saved` are trained without one. The paths
    `in_copies` are further targets, which PEFT adapts inside copies of `modules_to_save`. The
    `targets` are the configured ones, or those of the model's type.
    """

    matrices: tuple[Module, ...]
    saved: tuple[str, ...]
    problems: tuple[Mismatch, ...]
    notes: tuple[str, ...]
    in_copies: tuple[str, ...] = ()
    targets: Targets = ()


def match(block: Block, model: BaseModel) -> Matched:
    """Match AdaLoRA's configuration without errors against a model, as PEFT does on injection."""
    found = select(block, model)
    if not found.targets:
        return found
    problems = (
        *found.problems,
        *_unsuitable(found.matrices),
        *_of_other_fields(block, model, {each.path for each in found.matrices}, found.in_copies),
    )
    return replace(found, problems=problems)


def select(
    block: Block, model: BaseModel, defaults: Mapping[str, Targets] = DEFAULT_TARGETS
) -> Matched:
    """Return the modules that a configuration of AdaLoRA or LoRA selects, whatever their kind.

    The configuration has no errors. `defaults` are targets by type of model, where it has none.
    """
    saved = saved_module_names(block["modules_to_save"], block["task_type"])
    names, left_out = PathEnds(saved), PathEnds(saved, after_dot=True)
    copied = {path for path in model.modules if names.around(path) is not None}
    tensors = tuple(each for each in model.tensors if each.rpartition(".")[0] in copied)
    problems = list(_slow_expressions(block))
    if problems:
        return Matched((), tensors, tuple(problems), ())
    targets, notes, problem = _targets(block, model, defaults)
    if problem is not None:
        return Matched((), tensors, (problem,), ())
    matcher = Matcher()
    selection = ModuleSelection(
        targets, block["exclude_modules"], block["layers_to_transform"], block["layers_pattern"],
        saved, matcher,
    )  # fmt: skip
    try:
        included = [module for path, module in model.modules.items() if selection.includes(path)]
        matrices = [module for module in included if not selection.excludes(module.path)]
        in_copies = [
            module.path
            for module in included
            if block.runtime == "peft"
            and module.path in copied
            and left_out.around(module.path) is None
            and not selection.is_named_by_exclude(module.path)
        ]
        unmatched = unmatched_targets(targets, model, matcher)
        idle = unmatched_targets(block["exclude_modules"] or (), model, matcher, "exclude_modules")
        wanted = () if isinstance(block["target_modules"], str) else selection.wanted_layers
        layers = {selection.layer_of(module.path) for module in included if wanted}
    except ExpressionError as error:
        problem = Mismatch(error.field, f"{error.field}: {error.problem}", error.hint)
        return Matched((), tensors, (problem,), ())
    if unmatched and len(unmatched) == len([targets] if isinstance(targets, str) else targets):
        problems.append(no_target_matches(targets, model, matcher))
    elif unmatched:
        # PEFT ignores an entry that matches nothing beside one that matches.
        notes += ignored_targets(unmatched, model)
    if not problems and not matrices and not in_copies:
        problems.append(_nothing_left(block, targets, included, model))
    notes += few(
        f"modules_to_save: the file has no {name!r}; a module that the model creates is not counted"
        for name in absent_names(saved, copied)
    )
    idle_values = map(shown_value, idle.values())
    notes += few(f"exclude_modules: {value} matches no module" for value in idle_values)
    absent = (layer for layer in wanted if layer not in layers)
    notes += few(f"layers_to_transform: no target is in layer {layer}" for layer in absent)
    if block["layer_replication"]:
        notes.append("layer_replication: replicated layers are not counted")
    return Matched(
        tuple(matrices), tensors, tuple(problems), tuple(notes), tuple(in_copies), targets
    )


def _slow_expressions(block: Block) -> Iterator[Mismatch]:
    """Yield a problem for each expression that may never finish; rule slow-regex explains it."""
    for field in ("target_modules", "exclude_modules", "layers_pattern"):
        value = block[field]
        for text in [value] if isinstance(value, str) else value or ():
            is_expression = isinstance(value, str) or field == "layers_pattern"
            if is_expression and block.expressions.judge(text).slow is not None:
                yield Mismatch(
                    field,
                    f"{field} {text!r} repeats a repetition, which may take exponential time: it "
                    "is not matched against the model",
                    "remove one repetition: a+ matches the same as (a+)+ (adalora rule ADA502)",
                )


def _targets(
    block: Block, model: BaseModel, defaults: Mapping[str, Targets]
) -> tuple[Targets, list[str], Mismatch | None]:
    targets = block["target_modules"]
    if is_all_linear(targets):
        layers = model.of_kind("matrix", "packed")
        linear = [module.path for module in layers if not model.is_output_head(module)]
        note = (
            "all-linear: every two-dimensional weight that is not named like an embedding or the "
            "output head; the header has no further information"
        )
        return linear, [note], None
    if targets is not None:
        return targets, [], None
    if (default := defaults.get(model.model_type or "")) is not None:
        note = f"target_modules: {shown_value(default)}, the default for the model type"
        return default, [note], None
    known = "unknown" if model.model_type is None else repr(model.model_type)
    message = f"target_modules is not set, and the model's type has no default: {known}"
    return (), [], Mismatch("target_modules", message, f"set target_modules; {names_of(model)}")


def _nothing_left(
    block: Block, targets: Targets, included: list[Module], model: BaseModel
) -> Mismatch:
    if included:
        message = f"all {len(included)} modules that target_modules matches are excluded"
        return Mismatch(
            "exclude_modules", message, "exclude fewer modules, or list fewer in modules_to_save"
        )
    layers = block["layers_to_transform"]
    if isinstance(targets, str) or layers in (None, []):
        message = "target_modules matches no module that can be adapted"
        return Mismatch("target_modules", message, f"name other modules; {names_of(model)}")
    indices = {
        int(found) for path in model.modules for found in re.findall(r"\.(\d+)(?=\.)", f"{path}.")
    }
    message = f"layers_to_transform {shown_value(layers)} leaves none of the matched modules"
    hint = "remove it: no layer of the model has an index"
    if indices:
        hint = f"choose from the model's layers, {min(indices)} to {max(indices)}"
    return Mismatch("layers_to_transform", message, hint)


def _unsuitable(matrices: Iterable[Module]) -> Iterator[Mismatch]:
    wrong = {
        "other": "holds no matrix of its own, and no convolution of two dimensions",
        "embedding": "is named like an embedding, and AdaLoRA does not adapt embeddings",
        "packed": "is packed by quantisation, and the header does not hold its sizes",
    }
    for kind, what in wrong.items():
        found = [module.path for module in matrices if _kind(module) == kind]
        if found:
            others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            hint = "exclude it, or name its submodules"
            if kind == "packed":
                hint = "plan with the weights of the model before quantisation"
            yield Mismatch(
                "target_modules", f"target_modules matches {found[0]}{others}, which {what}", hint
            )


_PICTURE = 4
"""Number of dimensions of the weight of a two-dimensional convolution."""


def _kind(module: Module) -> Kind:
    is_other = module.kind == "convolution" and len(module.shape) != _PICTURE
    return "other" if is_other else module.kind


def _of_other_fields(
    block: Block, model: BaseModel, targets: Collection[str], in_copies: Sequence[str]
) -> Iterator[Mismatch]:
    """Yield the problems of settings other than the targets, which are paths."""
    if block.runtime != "peft":
        for field in NOT_TRAINED_HERE:
            if block[field]:
                message = f"{field} is not supported by get_peft_model of adalora_core"
                yield Mismatch(field, message, "remove it, or build the model with PEFT")
    if block["trainable_token_indices"]:
        yield from no_such_tokens(block["trainable_token_indices"], model)
    if block.runtime == "peft":
        yield from copies_that_break(block, model, in_copies)
    if block.is_saved and block["rank_pattern"]:
        yield from _rank_pattern(block, model, targets)


def copies_that_break(block: Block, model: BaseModel, adapted: Sequence[str]) -> Iterator[Mismatch]:
    """Yield the problems of copies for `modules_to_save`, with targets inside of them or not."""
    names = PathEnds(saved_module_names(block["modules_to_save"], block["task_type"]))
    found = [path for path in model.modules if names.end_of(path) is not None]
    outer = set(outermost(found))
    inner = [path for path in found if path not in outer]
    hint = "list whole paths, {}; PEFT takes every path that ends with an entry"
    if inner:
        yield Mismatch(
            "modules_to_save",
            f"modules_to_save matches {_counted(inner)}, and a module around it: PEFT copies both, "
            "and cannot load what it saves",
            hint.format("none of them inside another"),
        )
    if adapted:
        yield Mismatch(
            "modules_to_save",
            f"modules_to_save copies {_counted(adapted)}, which PEFT adapts before: it cannot make "
            "or load such a copy",
            hint.format("or exclude the targets inside with exclude_modules"),
        )


def no_such_tokens(value: list[int] | dict[str, list[int]], model: BaseModel) -> Iterator[Mismatch]:
    """Yield the problems of `trainable_token_indices`: names of no embedding, rows beyond it."""
    embeddings = model.of_kind("embedding")
    names = ", ".join(module.path for module in embeddings[:3]) or "none"
    hint = f"name an embedding, and list tokens that it has; embeddings of the model: {names}"
    if isinstance(value, dict):
        for name, tokens in value.items():
            found = [m for m in model.modules.values() if m.path.endswith(name)]
            rows = min((m.outputs for m in found), default=0)
            if not rows:
                what = "has no matrix of its own" if found else "is not a module of the model"
                yield Mismatch("trainable_token_indices", f"{name!r} {what}", hint)
            elif max(tokens) >= rows:
                yield Mismatch("trainable_token_indices", _beyond(max(tokens), rows), hint)
    elif not embeddings:
        yield Mismatch("trainable_token_indices", "the model has no embedding of tokens", hint)
    elif max(value) >= (rows := max(module.outputs for module in embeddings)):
        yield Mismatch("trainable_token_indices", _beyond(max(value), rows), hint)


def _beyond(token: int, rows: int) -> str:
    return f"the embedding has {rows} rows, and no row {token}"


def _rank_pattern(block: Block, model: BaseModel, targets: Collection[str]) -> Iterator[Mismatch]:
    keys = [key for key in block["rank_pattern"] if isinstance(key, str)]
    if block.runtime == "peft":
        named = {module_of(key) for key in keys}
    else:  # this package reads past the name of any adapter
        named = {key.rpartition(SINGULAR_VALUES_SUFFIX)[0] for key in keys}
    if foreign := sorted(path for path in named if path not in model.modules):
        message = f"rank_pattern names {_counted(foreign)}, which the model does not have"
        yield Mismatch("rank_pattern", message, "write the paths of the model's modules")
    elif block.runtime == "peft":
        absent = sorted(set(targets) - named)
        if others := sorted(named - set(targets)):
            message = f"rank_pattern names {_counted(others)}, which target_modules leaves out"
            yield Mismatch("rank_pattern", message, "name the same modules in both")
        elif absent:
            message = f"rank_pattern has no entry for {_counted(absent)}"
            yield Mismatch("rank_pattern", message, "restore the entries that PEFT wrote")


def module_of(key: Any) -> str:
    """Return the path that PEFT reads in a key of `rank_pattern`, for the adapter `default`.

    Example:
        >>> module_of("layers.0.q.lora_E"), module_of("layers.0.q.lora_E.default")
        ('layers.0.q', 'layers.0.q')
    """
    parts = key.split(".")
    return ".".join(parts[:-2] if "default" in key else parts[:-1])


def _counted(paths: Iterable[str]) -> str:
    first, *more = paths
    return f"{first!r} and {len(more)} more" if more else repr(first)
