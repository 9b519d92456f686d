"""Find the configurations of plain LoRA in a document: mappings, tools' files, calls in code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.pipeline.discovery import Search, find_blocks, is_read_by
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
    document: Document,
    options: CheckOptions,
    key: str | None = None,
    layout: Layout | None = None,
) -> list[Block]:
    """Return the configurations of LoRA in the order of the text.

    Values are under the names of PEFT's `LoraConfig`, with `peft_type` LORA in each; `block[name]`
    is the tool's or PEFT's default where the name is absent. What only a run can tell is named in
    `deferred` and absent from `values`. `base_model_name_or_path` is the model that a tool's file
    names. In code the path is `("LoraConfig", index)`, of `document.script.lora_calls[index]`.

    Args:
        document: the decoded document.
        options: how to check.
        key: JSON pointer of the one configuration, empty for the whole document; None: all.
        layout: the layout to search for; None: every layout.
    """
    if document.fatal:
        return []
    search = _LoraSearch(document, options)
    found = search.lora_calls() if document.script is not None else list(search.named())
    return [
        block
        for block in found
        if (key is None or to_pointer(block.path) == key) and layout in (None, block.layout)
    ]


def holds_lora_alone(document: Document, options: CheckOptions) -> bool:
    """Return whether a document has configurations of LoRA, and nothing in it is AdaLoRA's."""
    if document.fatal or (document.script is not None and document.script.is_about_adalora):
        return False
    found = find_blocks(document, options, None, None, is_optional=False)
    others = isinstance(found, Problem) or all(block.is_other_method for block in found)
    return others and bool(lora_blocks(document, options))


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
        blocks = [self._of_call(call, (LORA_CLASS, index)) for index, call in enumerate(calls)]
        return [
            replace(
                block,
                values={**block.values, "peft_type": LORA},
                deferred=block.deferred - ADALORA_FIELDS,
            )
            for block in blocks
        ]

    def named(self) -> Iterator[Block]:
        """Yield each mapping that says LORA, as PEFT, Hydra or a known tool writes it."""
        for path, values in self._mappings():
            tools = (tool for tool in LORA_TOOLS if _is_told(values, tool))
            tool = next((each for each in tools if is_read_by(each, path, values)), None)
            if tool is not None:
                yield self._of_lora_tool(path, values, tool)
            elif _says_lora(values):
                deferred = self._deferred({name: name for name in values}, values)
                known = {name: each for name, each in values.items() if name not in deferred}
                yield self._block(path, {**known, "peft_type": LORA}, deferred=deferred)

    def _of_lora_tool(self, path: Path, values: dict[Any, Any], tool: Tool) -> Block:
        spelled = {name: key for key, name in tool.keys.items() if values.get(key) not in _NOTHING}
        deferred = self._deferred(spelled, values)
        known = {name: values[key] for name, key in spelled.items() if name not in deferred}
        for name in {"target_modules", "modules_to_save"} & known.keys():
            known[name] = _modules(known[name], tool)
        if tool.alpha_per_rank is not None and "lora_alpha" not in spelled:
            rank = known.get("r", FIELDS["r"].default)
            if "r" in deferred or type(rank) is not int:
                deferred |= {"lora_alpha"}
            else:
                known["lora_alpha"] = tool.alpha_per_rank * rank
        return self._block(
            path,
            {**known, "peft_type": LORA},
            keys={name: (*path, key) for name, key in spelled.items()},
            layout=tool.layout,
            tool=tool,
            marker=(*path, next(each for each in tool.markers if each in values)),
            deferred=deferred,
        )


_NOTHING: tuple[Any, ...] = (None, [], "", False)
"""Values of a tool's key with which the key does nothing."""


def _is_told(values: dict[Any, Any], tool: Tool) -> bool:
    """Return whether a mapping says LoRA by a tool's marker, and has a key of the tool's."""
    said = [values[marker] for marker in tool.markers if marker in values]
    words = [each.strip().lower() if isinstance(each, str) else each for each in said]
    return any(
        type(each) in (str, bool) and each in tool.says for each in words
    ) and not tool.keys.keys().isdisjoint(values)


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
