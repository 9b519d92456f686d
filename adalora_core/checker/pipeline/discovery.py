"""Find the configurations of a document, also of LoRA: at a pointer, in code, or by layout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.search import Search, expanded
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import (
    DISTINCTIVE_FIELDS,
    LORA,
    LORA_FIELDS,
    PEFT_TYPE,
    is_method,
)
from adalora_core.config.fields.tools import LORA_TOOLS, WRITTEN, Layout, Tool
from adalora_core.config.rules.base import Finding
from adalora_core.config.rules.runs import TensorsDoNotFit
from adalora_core.floor.files import is_link_out, read_start
from adalora_core.floor.module_selection import ALL_LINEAR
from adalora_core.floor.places import Path, to_pointer

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
    search, of_lora = Search(document, options, layout), lora_blocks(document, options, key, layout)
    uses_peft = False
    if document.script is not None:
        blocks = search.calls() if layout in (None, "python") else []
        if key:
            blocks = [block for block in blocks if to_pointer(block.path) == key]
            if not (blocks or of_lora):
                return Problem(problems.NO_BLOCK, f"the code has no call at {key!r}")
        imports = document.script.scopes.imports
        uses_peft = any(name.partition(".")[0] == "peft" for name in imports)
    elif key is None:
        blocks = search.everywhere()
        if is_optional:
            blocks = [block for block in blocks if block.is_unambiguous]
    else:
        found = search.at_pointer(key)
        if isinstance(found, Problem):
            return found
        blocks = [found]
    places = {block.path for block in of_lora}
    blocks = [
        block
        for block in blocks
        # Another method has none of AdaLoRA's own names: the word is wrong there.
        if not (is_optional and (block.is_lora or block.is_other_method))
        or not DISTINCTIVE_FIELDS.isdisjoint(block.values)
        if block.path not in places
    ]
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


class LoraSearch(Search):
    """The search for configurations of LoRA.

    Values are under the names of PEFT's `LoraConfig`; a tool's base model is
    `base_model_name_or_path`. In code the path is `("LoraConfig", index)`.
    """

    def found(self) -> list[Block]:
        """Return the configurations in the order of the text."""
        document = self._document
        if document.script is not None:
            from adalora_core.checker.documents.python.script import LORA_CLASS

            calls = enumerate(document.script.lora_calls)
            return [self._of_call(call, (LORA_CLASS, index), LORA) for index, call in calls]
        return list(self._named_lora()) if isinstance(document.value, (dict, list)) else []

    def _named_lora(self) -> Iterator[Block]:
        """Yield each mapping that names LORA, as PEFT, Hydra or a known tool writes it."""
        for path, values in self._mappings:
            tools = (tool for tool in LORA_TOOLS if _is_marked(values, tool))
            tool = next((each for each in tools if each.reads(path, values)), None)
            if tool and "peft_type" not in tool.markers and is_method(values.get("peft_type")):
                tool = None  # PEFT reads a mapping with its own key, whatever else is there
            if tool is not None:
                yield self._of_lora_tool(path, values, tool)
            elif _names_lora(values):
                deferred = self._deferred({name: name for name in values}, values, LORA)
                known = {name: each for name, each in values.items() if name not in deferred}
                layout: Layout = "flat" if path or "_target_" in values else "peft"
                yield self._block(path, known, layout=layout, deferred=deferred, method=LORA)

    def _of_lora_tool(self, path: Path, values: dict[Any, Any], tool: Tool) -> Block:
        given = {key: values[key] for key in tool.keys if _is_given(values.get(key))}
        spelled = {tool.keys[key]: key for key in given}
        deferred = self._deferred(spelled, values, LORA)
        known = {name: values[key] for name, key in spelled.items() if name not in deferred}
        for name in {"target_modules", "modules_to_save"} & known.keys():
            known[name] = _modules(known[name], tool)
        if tool.alpha_per_rank is not None and "lora_alpha" not in spelled:
            rank = known.get("r", LORA_FIELDS["r"].default)
            if type(rank) is int and "r" not in deferred:
                known["lora_alpha"] = tool.alpha_per_rank * rank
            else:
                deferred |= {"lora_alpha"}
        keys = {name: (*path, key) for name, key in spelled.items()}
        more: dict[str, Any] = {"keys": keys, "layout": tool.layout, "tool": tool}
        return self._block(path, known, deferred=deferred, method=LORA, **more)


def _is_given(value: Any) -> bool:
    """Return whether a tool's key with a value does anything."""
    return value is not False and value not in (None, [], "")


def _is_marked(values: dict[Any, Any], tool: Tool) -> bool:
    """Return whether a mapping names LoRA by a tool's marker, and has a key of the tool's."""
    said = (values[marker] for marker in tool.markers if marker in values)
    words = [each.strip().lower() if isinstance(each, str) else each is True for each in said]
    return not (tool.says.isdisjoint(words) or tool.keys.keys().isdisjoint(values))


def _names_lora(values: dict[Any, Any]) -> bool:
    """Return whether a mapping holds PEFT's names and names LORA, and none of AdaLoRA's."""
    word, hydra = values.get("peft_type"), values.get("_target_")
    is_class = isinstance(hydra, str) and hydra.rpartition(".")[2] == "LoraConfig"
    is_word = isinstance(word, str) and word.strip().upper() == LORA
    # Another spelling of the word may be a setting of a tool, whose rank has another name.
    is_lora = word == LORA or ((is_word or is_class) and "r" in values)
    return is_lora and DISTINCTIVE_FIELDS.isdisjoint(values)


def _modules(value: Any, tool: Tool) -> Any:
    """Return names of modules as PEFT takes them."""
    if tool.splits and isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
        return ALL_LINEAR if value == ["all"] else value
    return ALL_LINEAR if value is True else expanded(value)


CONFIG_NAME = "adapter_config.json"
_POINTER = b"version "
"""How a file of Git LFS begins that names its content, where a checkout left that out."""


def is_empty_config(raw: bytes, name: str) -> bool:
    """Return whether a file is that of a saved adapter by its name, and holds nothing."""
    return FilePath(name).name == CONFIG_NAME and raw.strip() in {b"", b"{}"}


def is_untyped(name: str | None, block: Block) -> bool:
    """Return whether a saved adapter names its method by `type`, which PEFT does not read."""
    is_saved = (
        FilePath(name or "").name == CONFIG_NAME and block.layout == "flat" and not block.path
    )
    return is_saved and str(block.root.get("type")).upper() == PEFT_TYPE


def has_state(name: str | None) -> bool:
    """Return whether a training state is beside the file: its adapter is one in mid-run."""
    path = FilePath(name or "")
    return path.name == CONFIG_NAME and any(path.parent.glob("adalora_state.*.safetensors"))


def file_findings(name: str | None, blocks: Sequence[Block]) -> Iterator[Finding]:
    """Yield the faults of the tensors beside the file with configurations of LoRA, if any."""
    path = FilePath(name or "")
    if path.name != CONFIG_NAME or [(each.path, each.method) for each in blocks] != [((), LORA)]:
        return
    # Imported for saved adapters only: the modules take time.
    from adalora_core.checker.plan.adapter_tensors import RULES, WEIGHTS, SavedLora

    file = path.with_name(WEIGHTS)
    try:
        if file.exists() and (is_link_out(file) or read_start(file, len(_POINTER)) == _POINTER):
            return
        faults = SavedLora(path.parent, blocks[0].values).faults()
    except OSError:
        return
    except ValueError as error:
        if not path.with_name("adapter_model.bin").exists():
            message, hint = f"the tensors cannot be read: {error}", "save the adapter again"
            yield Finding(TensorsDoNotFit, (), message, hint=hint)
        return
    for each in faults:
        rule, severity = RULES[each.kind], each.severity
        yield Finding(rule, (), each.message, severity=severity, hint=each.hint)
