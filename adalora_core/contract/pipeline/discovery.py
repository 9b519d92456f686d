"""Find the AdaLoRA configurations of a document: at a pointer, or by their layout."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

from adalora_core.contract.fields.block import Block
from adalora_core.contract.fields.expressions import Expressions
from adalora_core.contract.fields.table import ADALORA_FIELDS, DISTINCTIVE_FIELDS, FIELDS, PEFT_TYPE
from adalora_core.contract.fields.value_kinds import name_of_value
from adalora_core.contract.text import problems
from adalora_core.contract.text.places import from_pointer
from adalora_core.contract.text.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adalora_core.contract.fields.block import Layout
    from adalora_core.contract.pipeline.options import CheckOptions
    from adalora_core.contract.text.document import Document
    from adalora_core.contract.text.places import Path


_DISTINCTIVE = b"|".join(name.encode() for name in sorted(DISTINCTIVE_FIELDS))
ADALORA_WORDS = re.compile(rb"adalora|\b(?:" + _DISTINCTIVE + rb")\b", re.IGNORECASE)
"""Every text that holds an AdaLoRA configuration contains one of these."""
PEFT_WORDS = re.compile(rb"\b(?:peft_type|" + _DISTINCTIVE + rb")\b", re.IGNORECASE)
"""A damaged text without any of these is not taken for a configuration: a manifest or a script may
mention AdaLoRA too."""


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
    if key is None:
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
    if blocks:
        return tuple(blocks)
    return Problem(problems.NO_BLOCK, "no AdaLoRA configuration in this file", at="key")


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
    return _block(document, path, value, options)


def _step(value: Any, step: str) -> tuple[str | int | None, Any]:
    if isinstance(value, dict) and step in value:
        return step, value[step]
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return int(step), value[int(step)]
    return None, None


def _block(
    document: Document, path: Path, values: dict[str, Any], options: CheckOptions, **more: Any
) -> Block:
    """Return a block of `document` that is checked under `options`."""
    return Block(
        values,
        path,
        runtime=options.runtime,
        strict_keys=options.strict_keys,
        strict_types=options.strict_types,
        peft_version=options.peft_version,
        root=document.value,
        ambiguous_scalars=document.ambiguous_below(path),
        **more,
    )


def _search(document: Document, options: CheckOptions, layout: Layout | None) -> list[Block]:
    """Return every AdaLoRA block of a document, in the order of the text.

    The search ends at the first step that finds a block: mappings with `peft_type` ADALORA in any
    spelling of case; mappings in the layout of a tool; the whole document, if it has a `peft_type`
    or a key that only AdaLoRA has.
    """
    if not isinstance(document.value, (dict, list)):
        return []
    mappings = list(_mappings(document.value, options.limits.nodes))
    top = document.value if isinstance(document.value, dict) else {}
    if isinstance(top.get("peft_type"), str) and layout in (None, "peft"):
        return [_block(document, (), top, options)]
    if layout in (None, "peft"):
        typed = [(path, values) for path, values in mappings if _names_adalora(values, "peft_type")]
        if typed:
            return [_block(document, path, values, options) for path, values in typed]
    for known, find in _LAYOUTS.items():
        if layout in (None, known):
            found = [find(document, path, values, options) for path, values in mappings]
            blocks = [block for block in found if block is not None]
            if blocks:
                return blocks
    if layout in (None, "peft") and ("peft_type" in top or not ADALORA_FIELDS.isdisjoint(top)):
        return [_block(document, (), top, options)]
    return []


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


def _names_adalora(values: dict[str, Any], key: str) -> bool:
    value = values.get(key)
    return isinstance(value, str) and value.strip().upper() == PEFT_TYPE


_MARKERS = (
    "method",
    "peft_method",
    "lora_type",
    "adapter_type",
    "adapter",
    "finetuning_type",
    "train_type",
    "tuner_type",
    "sft_type",
    "peft",
)
_SECTIONS = ("adalora", "adalora_config", "lora", "lora_config", "peft_config", "peft", "adapter")
_PREFIX = "adalora_"


def _prefixed(
    document: Document, path: Path, values: dict[str, Any], options: CheckOptions
) -> Block | None:
    """Return the block of keys prefixed by `adalora_`, with the other keys that PEFT knows."""
    spelled = {
        key.removeprefix(_PREFIX): key
        for key in values
        if isinstance(key, str) and key.startswith(_PREFIX)
    }
    if ADALORA_FIELDS.isdisjoint(spelled):
        return None
    spelled |= {key: key for key in values if key in FIELDS and key not in spelled}
    return _block(
        document,
        path,
        {name: values[key] for name, key in spelled.items()},
        options,
        keys={name: (*path, key) for name, key in spelled.items()},
        layout="prefixed",
    )


def _section(
    document: Document, path: Path, values: dict[str, Any], options: CheckOptions
) -> Block | None:
    """Return the section of PEFT's names beside a key whose value is adalora."""
    if not any(_names_adalora(values, marker) for marker in _MARKERS):
        return None
    sections = {name: entry for name, entry in values.items() if isinstance(entry, dict)}
    distinctive = [
        name for name, entry in sections.items() if not DISTINCTIVE_FIELDS.isdisjoint(entry)
    ]
    for name in (*_SECTIONS, *distinctive):
        if name in sections:
            section = sections[name]
            return _block(document, (*path, name), section, options, layout="section")
    return None


def _flat(
    document: Document, path: Path, values: dict[str, Any], options: CheckOptions
) -> Block | None:
    """Return the whole mapping if a key has the value adalora or Hydra's key names the class."""
    hydra = values.get("_target_")
    is_class = isinstance(hydra, str) and hydra.rpartition(".")[2] == "AdaLoraConfig"
    if is_class or any(_names_adalora(values, marker) for marker in _MARKERS):
        return _block(document, path, values, options, layout="flat")
    return None


_LAYOUTS: dict[Layout, Callable[..., Block | None]] = {
    "prefixed": _prefixed,
    "section": _section,
    "flat": _flat,
}
