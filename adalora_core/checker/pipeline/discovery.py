"""Find the AdaLoRA configurations of a document: at a pointer, or by their layout."""

from __future__ import annotations

import re
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.pipeline.tool_files import (
    UNKNOWN_TOOLS,
    block_of,
    calls,
    find_tool,
    has_prefixed_fields,
    names_adalora,
)
from adalora_core.config.fields.expressions import Expressions
from adalora_core.config.fields.table import ADALORA_FIELDS, DISTINCTIVE_FIELDS, PEFT_TYPE
from adalora_core.config.fields.value_kinds import name_of_value
from adalora_core.floor.places import from_pointer, to_pointer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.pipeline.options import CheckOptions
    from adalora_core.config.fields.block import Block
    from adalora_core.config.fields.tools import Layout
    from adalora_core.floor.places import Path


_DISTINCTIVE = b"|".join(name.encode() for name in sorted(DISTINCTIVE_FIELDS))
ADALORA_WORDS = re.compile(rb"adalora|\b(?:" + _DISTINCTIVE + rb")\b", re.IGNORECASE)
"""Every text that holds an AdaLoRA configuration contains one of these."""
PEFT_WORDS = re.compile(rb"\b(?:peft_type|" + _DISTINCTIVE + rb")\b", re.IGNORECASE)
"""A damaged text without any of these is not taken for a configuration: a manifest or a script may
mention AdaLoRA too."""
CODE_WORDS = re.compile(rb"AdaLoraConfig\s*\(|\bupdate_and_allocate\b")
"""Damaged code without any of these is not reported: it may be a template, or of another Python."""


def mentions_adalora(raw: bytes) -> bool:
    """Return whether code holds the word AdaLoRA, in any spelling of case."""
    return b"adalora" in raw.lower()


def find_blocks(
    document: Document,
    options: CheckOptions,
    key: str | None,
    layout: Layout | None,
    *,
    is_optional: bool,
) -> tuple[Block, ...] | Problem:
    """Return the configurations of a document in the order of the text, or a problem if none.

    Args:
        document: the decoded document.
        options: how to check.
        key: JSON pointer of the one configuration, empty for the whole document; None: search.
        layout: the layout to search for; None: every layout.
        is_optional: ignore configurations of other methods, and mappings that may belong to
            another program.

    Raises:
        ValueError: `key` is not a JSON pointer.
    """
    if document.script is not None:
        blocks = calls(document, options) if layout in (None, "python") else []
        if key:
            blocks = [block for block in blocks if to_pointer(block.path) == key]
            if not blocks:
                return Problem(problems.NO_BLOCK, f"the code has no call at {key!r}")
    elif key is None:
        blocks = _search(document, options, layout)
        if is_optional:
            blocks = [block for block in blocks if block.is_unambiguous]
    else:
        found = _at_pointer(document, key, options)
        if isinstance(found, Problem):
            return found
        blocks = [found]
    if is_optional:
        blocks = [block for block in blocks if not block.is_other_method]
    expressions = Expressions(options.limits.regex_length)
    for block in blocks:
        block.expressions = expressions
    if blocks or (document.script is not None and document.script.is_about_adalora):
        return tuple(blocks)
    none = Problem(problems.NO_BLOCK, "no AdaLoRA configuration in this file", at="key")
    return none if layout not in (None, "peft") else _without_method(document, options) or none


_LEAST_NAMES = 3
"""The fewest names of AdaLoRA in a mapping that is taken for a configuration without a method."""

_WRITTEN = {"toml": 'peft_type = "ADALORA"', "json": '"peft_type": "ADALORA"'}
"""The missing key as a format writes it, where not as YAML does."""


def _lookalike(document: Document, options: CheckOptions) -> Path | None:
    """Return the first mapping inside of a document that has AdaLoRA's names and no `peft_type`.

    One of the names has to be one that hardly any other program uses.
    """
    if document.script is not None or not isinstance(document.value, (dict, list)):
        return None
    for path, values in _mappings(document.value, options.limits.nodes):
        names = ADALORA_FIELDS & values.keys()
        is_alike = len(names) >= _LEAST_NAMES and not names.isdisjoint(DISTINCTIVE_FIELDS)
        if path and is_alike and "peft_type" not in values:
            return path
    return None


def _without_method(document: Document, options: CheckOptions) -> Problem | None:
    """Return the problem of a mapping that lacks the method alone, if there is one."""
    path = _lookalike(document, options)
    if path is None:
        return None
    pointer = to_pointer(path)
    message = f"`{pointer}` looks like an AdaLoRA configuration and lacks `peft_type`"
    hint = f"write `{_WRITTEN.get(document.format, 'peft_type: ADALORA')}` into it"
    return Problem(problems.NO_BLOCK, message, path, at="key", hint=hint)


def sections(document: Document, options: CheckOptions) -> list[Block]:
    """Return the configurations inside of a document that is not one itself."""
    top = document.value
    if document.fatal or document.script is not None or not isinstance(top, dict):
        return []
    if "peft_type" in top or not DISTINCTIVE_FIELDS.isdisjoint(top):
        return []
    return [block for block in _search(document, options, None) if block.path]


def _at_pointer(document: Document, key: str, options: CheckOptions) -> Block | Problem:
    path: Path = ()
    value = document.value
    for step in from_pointer(key):
        known, value = _step(value, step)
        if known is None:
            message = f"the document has no value at {key!r}"
            return Problem(problems.NO_BLOCK, message, path)
        path = (*path, known)
    if not isinstance(value, dict):
        message = f"a configuration should be an object with keys, got {name_of_value(value)}"
        return Problem(problems.NOT_A_MAPPING, message, path)
    return block_of(document, path, value, options)


def _step(value: Any, step: str) -> tuple[str | int | None, Any]:
    if isinstance(value, dict) and step in value:
        return step, value[step]
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return int(step), value[int(step)]
    return None, None


def _search(document: Document, options: CheckOptions, layout: Layout | None) -> list[Block]:
    """Return every AdaLoRA block of a document, in the order of the text.

    The search ends at the first step that finds a block: mappings of known tools or with
    `peft_type` ADALORA in any spelling of case; mappings in the layout of an unknown tool, layout
    by layout; the whole document, if it has a `peft_type` or a key that only AdaLoRA has.
    """
    if not isinstance(document.value, (dict, list)):
        return []
    mappings = list(_mappings(document.value, options.limits.nodes))
    top = document.value if isinstance(document.value, dict) else {}
    if blocks := list(_named(document, mappings, options, layout)):
        return blocks
    for name, find in UNKNOWN_TOOLS:
        if layout in (None, name):
            found = (find(document, options, mapping) for mapping in mappings)
            if blocks := list(chain.from_iterable(found)):
                return blocks
    if layout in (None, "peft") and ("peft_type" in top or not ADALORA_FIELDS.isdisjoint(top)):
        return [block_of(document, (), top, options)]
    return []


def _named(
    document: Document,
    mappings: list[tuple[Path, dict[str, Any]]],
    options: CheckOptions,
    layout: Layout | None,
) -> Iterator[Block]:
    """Yield the whole document if it has a `peft_type`, else every mapping that names AdaLoRA.

    Such a mapping is in the form of a known tool, or has the `peft_type` ADALORA.
    """
    for path, values in mappings:
        block = find_tool(document, path, values, options, layout)
        if block is not None:
            yield block
        elif layout in (None, "peft") and isinstance(values.get("peft_type"), str):
            has_fields = not ADALORA_FIELDS.isdisjoint(values)
            if not has_fields and has_prefixed_fields(values):
                continue
            # Without a field of AdaLoRA, another spelling of the word is a setting of the tool.
            is_peft = has_fields or values["peft_type"] == PEFT_TYPE
            if not path or (names_adalora(values, "peft_type") and is_peft):
                yield block_of(document, path, values, options)
            if not path:
                return


def _mappings(top: Any, most: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every mapping of the document once, outer mappings first."""
    queue: deque[tuple[Path, Any]] = deque([((), top)])
    seen: set[int] = set()
    while queue and len(seen) < most:
        path, node = queue.popleft()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, dict):
            yield path, node
        entries = node.items() if isinstance(node, dict) else enumerate(node)
        queue += [((*path, key), v) for key, v in entries if isinstance(v, (dict, list))]
