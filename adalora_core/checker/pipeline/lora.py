"""Find the configurations of plain LoRA in a document, and judge what is beside a saved adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from adalora_core.checker.pipeline.search import Search, expanded
from adalora_core.config.fields.table import (
    DISTINCTIVE_FIELDS,
    LORA,
    LORA_FIELDS,
    PEFT_TYPE,
    is_method,
)
from adalora_core.config.fields.tools import LORA_TOOLS, Layout, Tool
from adalora_core.config.rules.base import Finding
from adalora_core.config.rules.runs import TensorsDoNotFit
from adalora_core.floor.files import is_link_out, read_start
from adalora_core.floor.module_selection import ALL_LINEAR

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block
    from adalora_core.floor.places import Path


class LoraSearch(Search):
    """The search for configurations of LoRA.

    Values are under the names of PEFT's `LoraConfig`; a tool's base model is
    `base_model_name_or_path`. In code the path is `("LoraConfig", index)`, of
    `document.script.lora_calls[index]`.
    """

    def found(self) -> list[Block]:
        """Return the configurations in the order of the text."""
        document = self._document
        if document.fatal or not isinstance(document.value, (dict, list)):
            return []
        return list(self._named_lora() if document.script is None else self._lora_calls())

    def _lora_calls(self) -> Iterator[Block]:
        """Yield a block for each call of `LoraConfig`, whose places the document then knows."""
        from adalora_core.checker.documents.python.script import LORA_CLASS
        from adalora_core.checker.documents.python.source import ScriptLocator

        script, locator = self._document.script, self._document.locator
        calls = script.lora_calls if script else []
        if calls and isinstance(locator, ScriptLocator):
            locator.hold(LORA_CLASS, calls)
        for index, call in enumerate(calls):
            yield self._of_call(call, (LORA_CLASS, index), LORA)

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
