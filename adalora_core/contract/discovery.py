"""Where in a document the AdaLoRA configuration lies."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

from adalora_core.contract.block import Block
from adalora_core.contract.diagnostics import from_pointer
from adalora_core.contract.fields import ADALORA_FIELDS, FIELDS, PEFT_TYPE, TELLING_FIELDS
from adalora_core.contract.rule import Finding
from adalora_core.contract.rules import input as rules
from adalora_core.contract.shapes import name_of_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adalora_core.contract.block import Trainer
    from adalora_core.contract.options import CheckOptions
    from adalora_core.contract.shapes import Path
    from adalora_core.contract.sources.document import Document


_TELLING = b"|".join(name.encode() for name in sorted(TELLING_FIELDS))
ADALORA_WORDS = re.compile(rb"adalora|\b(?:" + _TELLING + rb")\b", re.IGNORECASE)
"""One of these stands in every text that holds an AdaLoRA configuration."""
PEFT_WORDS = re.compile(rb"\b(?:peft_type|" + _TELLING + rb")\b", re.IGNORECASE)
"""A text without any of these may speak of AdaLoRA, as a manifest or a script does, but is hardly a
configuration."""


def block_at(document: Document, key: str | None, options: CheckOptions) -> Block | Finding:
    """Return the block that the JSON pointer `key` names, the whole document without one.

    What is not there, or not a mapping, is a finding.

    Raises:
        ValueError: `key` is no JSON pointer.
    """
    path: Path = ()
    value = document.value
    for step in from_pointer(key or ""):
        known, value = _step(value, step)
        if known is None:
            return Finding(rules.NO_BLOCK, path, f"there is nothing at {key!r} in this document")
        path = (*path, known)
    if not isinstance(value, dict):
        return Finding(
            rules.NOT_A_MAPPING,
            path,
            f"a configuration should be an object with keys, got {name_of_value(value)}",
        )
    return make_block(document, path, value, options)


def _step(value: Any, step: str) -> tuple[str | int | None, Any]:
    if isinstance(value, dict) and step in value:
        return step, value[step]
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return int(step), value[int(step)]
    return None, None


def make_block(
    document: Document, path: Path, values: dict[str, Any], options: CheckOptions, **more: Any
) -> Block:
    """Return a block of `document` that is judged under `options`."""
    return Block(
        values,
        path,
        runtime=options.runtime,
        strict_keys=options.strict_keys,
        peft_version=options.peft_version,
        root=document.value,
        regex_length=options.limits.regex_length,
        oddities=tuple(o for o in document.oddities if o.path[: len(path)] == path),
        **more,
    )


def find_blocks(document: Document, options: CheckOptions, trainer: Trainer | None) -> list[Block]:
    """Return every AdaLoRA block of a document, in the order of the text.

    A block is a mapping with `peft_type` ADALORA in any case; else one that a trainer's habit
    marks; else the whole document, if it carries a name that only AdaLoRA has or a `peft_type`.

    Args:
        document: the decoded document.
        options: how to judge.
        trainer: look for this habit only; None: for all.
    """
    if not isinstance(document.value, (dict, list)):
        return []
    mappings = list(_mappings(document.value, options.limits.nodes))
    top = document.value if isinstance(document.value, dict) else {}
    if isinstance(top.get("peft_type"), str) and trainer in (None, "peft"):
        return [make_block(document, (), top, options)]
    if trainer in (None, "peft"):
        typed = [(path, values) for path, values in mappings if _says_adalora(values, "peft_type")]
        if typed:
            return [make_block(document, path, values, options) for path, values in typed]
    for habit, find in _HABITS.items():
        if trainer in (None, habit):
            found = [find(document, path, values, options) for path, values in mappings]
            blocks = [block for block in found if block is not None]
            if blocks:
                return blocks
    if trainer in (None, "peft") and ("peft_type" in top or not ADALORA_FIELDS.isdisjoint(top)):
        return [make_block(document, (), top, options)]
    return []


def _mappings(top: Any, most: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every mapping of the document, outer ones first, shared ones once."""
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


def _says_adalora(values: dict[str, Any], key: str) -> bool:
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
    """PEFT's names behind `adalora_`; names without it that PEFT knows belong to it too."""
    spelled = {
        key.removeprefix(_PREFIX): key
        for key in values
        if isinstance(key, str) and key.startswith(_PREFIX)
    }
    if ADALORA_FIELDS.isdisjoint(spelled):
        return None
    spelled |= {key: key for key in values if key in FIELDS and key not in spelled}
    return make_block(
        document,
        path,
        {name: values[key] for name, key in spelled.items()},
        options,
        keys={name: (*path, key) for name, key in spelled.items()},
        trainer="prefixed",
    )


def _section(
    document: Document, path: Path, values: dict[str, Any], options: CheckOptions
) -> Block | None:
    """A section of PEFT's names beside a key that says adalora."""
    if not any(_says_adalora(values, marker) for marker in _MARKERS):
        return None
    sections = {name: entry for name, entry in values.items() if isinstance(entry, dict)}
    telling = [name for name, entry in sections.items() if not TELLING_FIELDS.isdisjoint(entry)]
    for name in (*_SECTIONS, *telling):
        if name in sections:
            section = sections[name]
            return make_block(document, (*path, name), section, options, trainer="section")
    return None


def _flat(
    document: Document, path: Path, values: dict[str, Any], options: CheckOptions
) -> Block | None:
    """PEFT's names among a tool's own, beside a key that says adalora; Hydra's names the class."""
    hydra = values.get("_target_")
    is_class = isinstance(hydra, str) and hydra.rpartition(".")[2] == "AdaLoraConfig"
    if is_class or any(_says_adalora(values, marker) for marker in _MARKERS):
        return make_block(document, path, values, options, trainer="flat")
    return None


_HABITS: dict[Trainer, Callable[..., Block | None]] = {
    "prefixed": _prefixed,
    "section": _section,
    "flat": _flat,
}
