"""Where in a document the AdaLoRA configuration lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.contract.block import Block
from adalora_core.contract.diagnostics import from_pointer
from adalora_core.contract.rule import Finding
from adalora_core.contract.rules import input as rules
from adalora_core.contract.shapes import name_of_value

if TYPE_CHECKING:
    from adalora_core.contract.options import CheckOptions
    from adalora_core.contract.shapes import Path
    from adalora_core.contract.sources.document import Document


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
        oddities=tuple(o for o in document.oddities if o.path[: len(path)] == path),
        **more,
    )
