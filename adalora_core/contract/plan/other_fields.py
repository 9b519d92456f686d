"""Compare settings other than the targets with a model: rank patterns and trained tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adalora_core.contract.rules.conflicts import NOT_TRAINED_HERE
from adalora_core.module_selection import SavedNames, outermost, saved_module_names
from adalora_core.rank_pattern import SINGULAR_VALUES_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from adalora_core.contract.fields.block import Block
    from adalora_core.contract.plan.modules import BaseModel


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A setting that does not fit the model.

    Args:
        field: the name of the setting.
        message: the problem, with the value.
        hint: what to do, with names of the model.
        index: the entry of the value at fault; None: the whole value.
    """

    field: str
    message: str
    hint: str
    index: int | None = None


def of_other_fields(
    block: Block, model: BaseModel, targets: Collection[str], in_copies: Sequence[str]
) -> Iterator[Mismatch]:
    """Yield the problems of settings other than the targets.

    Args:
        block: a configuration without errors.
        model: the model to adapt.
        targets: paths of the modules that get an adapter.
        in_copies: paths of further targets, which PEFT adapts inside copies of `modules_to_save`.
    """
    if block.runtime != "peft":
        for field in NOT_TRAINED_HERE:
            if block[field]:
                message = f"{field} is not supported by get_peft_model of adalora_core"
                yield Mismatch(field, message, "remove it, or build the model with PEFT")
    elif block["trainable_token_indices"]:
        yield from _tokens(block["trainable_token_indices"], model)
    if block.runtime == "peft":
        yield from _copies_that_break(block, model, in_copies)
    if block.is_saved and block["rank_pattern"]:
        yield from _rank_pattern(block, model, targets)


def _copies_that_break(
    block: Block, model: BaseModel, adapted: Sequence[str]
) -> Iterator[Mismatch]:
    names = SavedNames(saved_module_names(block["modules_to_save"], block["task_type"]))
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


def _tokens(value: list[int] | dict[str, list[int]], model: BaseModel) -> Iterator[Mismatch]:
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
    else:
        rows = max(module.outputs for module in embeddings)
        if max(value) >= rows:
            yield Mismatch("trainable_token_indices", _beyond(max(value), rows), hint)


def _beyond(token: int, rows: int) -> str:
    return f"the embedding has {rows} rows, and no row {token}"


def _rank_pattern(block: Block, model: BaseModel, targets: Collection[str]) -> Iterator[Mismatch]:
    keys = [key for key in block["rank_pattern"] if isinstance(key, str)]
    if block.runtime == "peft":
        named = {module_of(key) for key in keys}
    else:  # this package reads past the name of any adapter
        named = {key.rpartition(SINGULAR_VALUES_SUFFIX)[0] for key in keys}
    foreign = sorted(path for path in named if path not in model.modules)
    if foreign:
        message = f"rank_pattern names {_counted(foreign)}, which the model does not have"
        yield Mismatch("rank_pattern", message, "write the paths of the model's modules")
    elif block.runtime == "peft":
        others = sorted(named - set(targets))
        absent = sorted(set(targets) - named)
        if others:
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
