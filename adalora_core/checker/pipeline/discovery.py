"""Find the configurations of a document: at a pointer, in code, or by the tool's layout."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.pipeline.search import Search
from adalora_core.config.fields.table import (
    DISTINCTIVE_FIELDS,
)
from adalora_core.config.fields.tools import WRITTEN
from adalora_core.floor.places import to_pointer

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.pipeline import CheckOptions
    from adalora_core.config.fields.block import Block
    from adalora_core.config.fields.tools import Layout


_LORA_WORD = re.compile(r"lora|use_peft", re.IGNORECASE)


def find_blocks(
    document: Document,
    options: CheckOptions,
    key: str | None,
    layout: Layout | None,
    *,
    is_optional: bool,
) -> tuple[Block, ...] | Problem:
    """Return the configurations of a document, AdaLoRA's first, or a problem if there are none.

    Args:
        document: the decoded document.
        options: how to check.
        key: JSON pointer of the one configuration, empty for the whole document; None: search.
        layout: the layout to search for; None: every layout.
        is_optional: ignore other methods, and mappings that may belong to another program.

    Raises:
        ValueError: `key` is not a JSON pointer.
    """
    top = document.value
    if isinstance(top, dict) and "peft_type" not in top and not WRITTEN.isdisjoint(top):
        return Problem(problems.NO_BLOCK, "a tool wrote this file: it configures nothing", at="key")
    search = Search(document, options, layout)
    if document.script is not None:
        blocks = search.calls() if layout in (None, "python") else []
        if key:
            blocks = [block for block in blocks if to_pointer(block.path) == key]
            if not (blocks or lora_blocks(document, options, key, layout)):
                return Problem(problems.NO_BLOCK, f"the code has no call at {key!r}")
    elif key is None:
        blocks = search.everywhere()
        if is_optional:
            blocks = [block for block in blocks if block.is_unambiguous]
    else:
        found = search.at_pointer(key)
        if isinstance(found, Problem):
            return found
        blocks = [found]
    if is_optional:
        # Another method has none of AdaLoRA's own names: the word is wrong there.
        blocks = [
            block
            for block in blocks
            if not (block.is_lora or block.is_other_method)
            or not DISTINCTIVE_FIELDS.isdisjoint(block.values)
        ]
    of_lora = lora_blocks(document, options, key, layout)
    places = {block.path for block in of_lora}
    blocks = [block for block in blocks if block.path not in places]
    imports = () if document.script is None else document.script.scopes.imports
    uses_peft = any(name.partition(".")[0] == "peft" for name in imports)
    if blocks or of_lora or document.is_about_adalora or uses_peft:
        return (*blocks, *of_lora)
    none = Problem(problems.NO_BLOCK, "no configuration of AdaLoRA or LoRA in this file", at="key")
    return none if layout not in (None, "peft") else search.likely_cause() or none


def lora_blocks(
    document: Document, options: CheckOptions, key: str | None, layout: Layout | None
) -> list[Block]:
    """Return the configurations of LoRA in the order of the text."""
    if document.script is None and not _LORA_WORD.search(document.text or str(document.value)):
        return []
    # Imported where LoRA is named only: the module takes time.
    from adalora_core.checker.pipeline.lora import LoraSearch

    found = LoraSearch(document, options).found()
    return [
        block
        for block in found
        if (key is None or to_pointer(block.path) == key) and layout in (None, block.layout)
    ]


def sections(document: Document, options: CheckOptions) -> list[Block]:
    """Return the configurations inside of a mapping that is not one itself."""
    top = document.value
    if document.fatal or "peft_type" in top or not DISTINCTIVE_FIELDS.isdisjoint(top):
        return []
    return [block for block in Search(document, options).everywhere() if block.path]
