"""Find the configurations of plain LoRA in a document: mappings, tools' files, calls in code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adalora_core.checker.pipeline.discovery import Search
from adalora_core.config.fields.table import ADALORA_FIELDS, DISTINCTIVE_FIELDS, FIELDS
from adalora_core.config.fields.tools import LORA_TOOLS, Layout, Tool
from adalora_core.floor.places import Path, to_pointer

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.pipeline import CheckOptions
    from adalora_core.config.fields.block import Block

LORA = "LORA"
_ALL = "all-linear"


def lora_blocks(
    document: Document, options: CheckOptions, key: str | None = None, layout: Layout | None = None
) -> list[Block]:
    """Return the configurations of LoRA in the order of the text; `find_blocks` has the arguments.

    Values are under the names of PEFT's `LoraConfig`, with `peft_type` LORA in each; a tool's base
    model is `base_model_name_or_path`. In code the path is `("LoraConfig", index)`, of
    `document.script.lora_calls[index]`.
    """
    if document.fatal or not isinstance(document.value, (dict, list)):
        return []
    search = _LoraSearch(document, options)
    found = search.lora_calls() if document.script is not None else list(search.named())
    return [
        block
        for block in found
        if (key is None or to_pointer(block.path) == key) and layout in (None, block.layout)
    ]


class _LoraSearch(Search):
    """The search for configurations of LoRA."""

    def lora_calls(self) -> list[Block]:
        """Return a block for each call of `LoraConfig`, whose places the document then knows."""
        from adalora_core.checker.documents.python.script import LORA_CLASS
        from adalora_core.checker.documents.python.source import ScriptLocator

        script, locator = self._document.script, self._document.locator
        calls = script.lora_calls if script else []
        if calls and isinstance(locator, ScriptLocator):
            locator.hold(LORA_CLASS, calls)
        return [self._of_call(call, (LORA_CLASS, index)) for index, call in enumerate(calls)]

    def _block(self, path: Path, values: dict[Any, Any], *given: Any, **more: Any) -> Block:
        more["deferred"] = more.get("deferred", frozenset()) - ADALORA_FIELDS
        return super()._block(path, {**values, "peft_type": LORA}, *given, **more)

    def named(self) -> Iterator[Block]:
        """Yield each mapping that says LORA, as PEFT, Hydra or a known tool writes it."""
        for path, values in self._mappings():
            tools = (tool for tool in LORA_TOOLS if _is_told(values, tool))
            tool = next((each for each in tools if each.reads(path, values)), None)
            if tool is not None:
                yield self._of_lora_tool(path, values, tool)
            elif _says_lora(values):
                deferred = self._deferred({name: name for name in values}, values)
                known = {name: each for name, each in values.items() if name not in deferred}
                yield self._block(path, known, deferred=deferred)

    def _of_lora_tool(self, path: Path, values: dict[Any, Any], tool: Tool) -> Block:
        given = {key: values[key] for key in tool.keys if _is_given(values.get(key))}
        spelled = {tool.keys[key]: key for key in given}
        deferred = self._deferred(spelled, values)
        known = {name: values[key] for name, key in spelled.items() if name not in deferred}
        for name in {"target_modules", "modules_to_save"} & known.keys():
            known[name] = _modules(known[name], tool)
        if tool.alpha_per_rank is not None and "lora_alpha" not in spelled:
            rank = known.get("r", FIELDS["r"].default)
            if type(rank) is int and "r" not in deferred:
                known["lora_alpha"] = tool.alpha_per_rank * rank
            else:
                deferred |= {"lora_alpha"}
        keys = {name: (*path, key) for name, key in spelled.items()}
        more = {"keys": keys, "layout": tool.layout, "tool": tool, "deferred": deferred}
        return self._block(path, known, **more)


def _is_given(value: Any) -> bool:
    """Return whether a tool's key with a value does anything."""
    return value is not False and value not in (None, [], "")


def _is_told(values: dict[Any, Any], tool: Tool) -> bool:
    """Return whether a mapping says LoRA by a tool's marker, and has a key of the tool's."""
    said = (values[marker] for marker in tool.markers if marker in values)
    words = [each.strip().lower() if isinstance(each, str) else each is True for each in said]
    return not (tool.says.isdisjoint(words) or tool.keys.keys().isdisjoint(values))


def _says_lora(values: dict[Any, Any]) -> bool:
    """Return whether a mapping holds PEFT's names and says LORA, and none of AdaLoRA's."""
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
        return _ALL if value == ["all"] else value
    return _ALL if value is True or (isinstance(value, list) and _ALL in value) else value
