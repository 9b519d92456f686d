"""Recognise AdaLoRA's settings in code, and in the files of other tools, known and unknown."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import (
    ADALORA_FIELDS,
    DISTINCTIVE_FIELDS,
    FIELDS,
    PEFT_TYPE,
    fields_of,
)
from adalora_core.config.fields.tools import BY_MARKER, PREFIX, Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.pipeline.options import CheckOptions
    from adalora_core.config.fields.tools import Layout
    from adalora_core.floor.places import Path

Mapped = tuple["Path", dict[Any, Any]]
"""A mapping of a document and its path."""

MOST_TRIALS = 64
"""The most combinations of a sweep that are checked."""

_METHOD_MARKERS = (
    "method", "peft_method", "lora_type", "adapter_type", "adapter", "finetuning_type",
    "train_type", "tuner_type", "sft_type", "peft",
)  # fmt: skip
_LOOSE_MARKERS = ("type", "name", "peft_type")
"""Keys whose value `adalora` marks a mapping only together with names that AdaLoRA alone has."""
_SECTIONS = ("adalora", "adalora_config", "lora", "lora_config", "peft_config", "peft", "adapter")
_SEARCHES = frozenset({"grid", "random", "bayes"})
"""The methods of a sweep of Weights & Biases."""


def block_of(
    document: Document, path: Path, values: dict[Any, Any], options: CheckOptions, **more: Any
) -> Block:
    """Return a block of `document` that is checked under `options`."""
    return Block(
        values,
        path,
        options,
        root=document.value,
        ambiguous_scalars=document.ambiguous_below(path),
        **more,
    )


def calls(document: Document, options: CheckOptions) -> list[Block]:
    """Return a block for each call of the class in the code of a document."""
    # Imported for code only: the modules take time.
    from adalora_core.checker.documents.python.script import CLASS
    from adalora_core.checker.documents.python.values import holds_unknown

    found = []
    for index, call in enumerate(document.script.calls if document.script else ()):
        runtime = "adalora-core" if call.is_ours else options.runtime
        fields = fields_of(runtime).keys()
        absent = fields - call.values.keys() if call.is_open else ()
        deferred = fields & {*call.deferred, *absent}
        found.append(
            block_of(
                document,
                (CLASS, index),
                {
                    name: None if holds_unknown(value) else value
                    for name, value in call.values.items()
                    if name not in deferred
                },
                replace(options, runtime=runtime),
                layout="python",
                deferred=frozenset(deferred),
            )
        )
    return found


def names_adalora(values: dict[Any, Any], key: str) -> bool:
    """Return whether a key has the value ADALORA, in any spelling of case."""
    value = values.get(key)
    return isinstance(value, str) and value.strip().upper() == PEFT_TYPE


def find_tool(
    document: Document,
    path: Path,
    values: dict[Any, Any],
    options: CheckOptions,
    layout: Layout | None,
) -> Block | None:
    """Return the block of a mapping that a known tool reads, if it is one."""
    for marker, tools in BY_MARKER.items():
        if marker in values and names_adalora(values, marker):
            for tool in tools:
                if layout not in (None, tool.layout) or not _is_read_by(tool, path, values):
                    continue
                place = (*path, marker)
                if tool.section is not None:
                    path, values = (*path, tool.section), values[tool.section]
                return _translated(document, path, values, options, tool.layout, tool, place)
    return None


def _is_read_by(tool: Tool, path: Path, values: dict[Any, Any]) -> bool:
    return (
        (not tool.beside or not tool.beside.isdisjoint(values))
        and tool.without.isdisjoint(values)
        and (tool.only_with is None or values.get(tool.only_with[0]) == tool.only_with[1])
        and (tool.under is None or path[-1:] == (tool.under,))
        and (tool.section is None or isinstance(values.get(tool.section), dict))
    )


def _prefixed(document: Document, options: CheckOptions, mapping: Mapped) -> Iterator[Block]:
    """Yield the block of keys with the prefix `adalora_`, with the other keys that PEFT knows."""
    path, values = mapping
    if not has_prefixed_fields(values):
        return
    yield _translated(document, path, values, options, "prefixed")


def _in_section(document: Document, options: CheckOptions, mapping: Mapped) -> Iterator[Block]:
    """Yield the section of PEFT's names beside a key whose value is adalora."""
    path, values = mapping
    mark = _mark(values)
    if mark is None:
        return
    name = _section(values, is_loose=mark == "loose")
    if name is None:
        return
    yield _translated(document, (*path, name), values[name], options, "section")


def _flat(document: Document, options: CheckOptions, mapping: Mapped) -> Iterator[Block]:
    """Yield the whole mapping if a key has the value adalora or Hydra's key names the class."""
    path, values = mapping
    hydra = values.get("_target_")
    is_class = isinstance(hydra, str) and hydra.rpartition(".")[2] == "AdaLoraConfig"
    mark = "sure" if is_class else _mark(values)
    if mark == "sure" or (mark == "loose" and not DISTINCTIVE_FIELDS.isdisjoint(values)):
        yield _translated(document, path, values, options, "flat")


def _mark(values: dict[Any, Any]) -> Literal["sure", "loose"] | None:
    if any(names_adalora(values, marker) for marker in _METHOD_MARKERS):
        return "sure"
    return "loose" if any(names_adalora(values, marker) for marker in _LOOSE_MARKERS) else None


def _section(values: dict[Any, Any], *, is_loose: bool) -> str | None:
    """Return the key of the section that holds PEFT's names."""
    sections = {name: entry for name, entry in values.items() if isinstance(entry, dict)}
    distinctive = [
        name for name, entry in sections.items() if not DISTINCTIVE_FIELDS.isdisjoint(entry)
    ]
    named = _SECTIONS[:2] if is_loose else _SECTIONS
    return next((name for name in (*named, *distinctive) if name in sections), None)


def has_prefixed_fields(values: dict[Any, Any]) -> bool:
    """Return whether a mapping has fields of AdaLoRA under the prefix `adalora_`."""
    names = {key.removeprefix(PREFIX) for key in values if _has_prefix(key)}
    return not ADALORA_FIELDS.isdisjoint(names)


def _has_prefix(key: Any) -> bool:
    return isinstance(key, str) and key.startswith(PREFIX)


def _translated(
    document: Document,
    path: Path,
    values: dict[Any, Any],
    options: CheckOptions,
    layout: Layout,
    tool: Tool | None = None,
    marker: Path | None = None,
) -> Block:
    """Return the block of a mapping under PEFT's names, without what is known at run time only."""
    own = {} if tool is None else tool.keys
    spelled: dict[Any, Any] = {}
    for key, value in values.items():
        if key in own:
            if value not in (None, []):
                spelled[own[key]] = key
        elif layout == "prefixed" and _has_prefix(key):
            spelled[key.removeprefix(PREFIX)] = key
    known = {*spelled, *spelled.values(), *own}
    for key in values:
        is_marker = names_adalora(values, key) and (key != "peft_type" or layout == "prefixed")
        if key in known or is_marker:
            continue
        if layout != "prefixed" or key in FIELDS:
            spelled[key] = key
    fields = fields_of(options.runtime)
    deferred = frozenset(
        name for name, key in spelled.items() if name in fields and _is_deferred(values[key])
    )
    return block_of(
        document,
        path,
        {name: values[key] for name, key in spelled.items() if name not in deferred},
        options,
        keys={name: (*path, key) for name, key in spelled.items()},
        layout=layout,
        tool=tool,
        marker=marker,
        deferred=deferred,
    )


def _is_deferred(value: Any) -> bool:
    """Return whether a value is an interpolation of OmegaConf, known when the run starts."""
    return isinstance(value, str) and "${" in value


def _swept(document: Document, options: CheckOptions, mapping: Mapped) -> Iterator[Block]:
    """Yield a block for each combination of values of a sweep of Weights & Biases."""
    path, values = mapping
    fields = values.get("parameters")
    if not isinstance(fields, dict) or values.get("method") not in _SEARCHES:
        return
    choices = {
        name.removeprefix(PREFIX): _choices(entry, name)
        for name, entry in fields.items()
        if isinstance(name, str) and isinstance(entry, dict)
        if name.removeprefix(PREFIX) in FIELDS
    }
    if DISTINCTIVE_FIELDS.isdisjoint(choices):
        return
    top = (*path, "parameters")
    known = {name: found for name, found in choices.items() if found}
    for trial in islice(product(*known.values()), MOST_TRIALS):
        chosen = dict(zip(known, trial, strict=True))
        yield block_of(
            document,
            top,
            {name: value for name, (_, value) in chosen.items()},
            options,
            keys={name: (*top, *place) for name, (place, _) in chosen.items()},
            layout="flat",
            deferred=frozenset(choices.keys() - known.keys()),
        )


def _choices(entry: dict[str, Any], key: str) -> list[tuple[Path, Any]]:
    """Return the values of one parameter of a sweep; none if they are drawn from a range."""
    if "value" in entry:
        return [((key, "value"), entry["value"])]
    values = entry.get("values")
    if not isinstance(values, list):
        return []
    return [((key, "values", number), value) for number, value in enumerate(values)]


UNKNOWN_TOOLS: tuple[tuple[Layout, Callable[..., Iterator[Block]]], ...] = (
    ("flat", _swept),
    ("prefixed", _prefixed),
    ("section", _in_section),
    ("flat", _flat),
)
"""How the settings are found in files of other tools, in the order of the search."""
