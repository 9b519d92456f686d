"""Search a document for the configurations of AdaLoRA: in code, or by the tool's layout."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice, product, starmap
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.problems import Problem
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.expressions import Expressions
from adalora_core.config.fields.table import (
    ADALORA_FIELDS,
    DISTINCTIVE_FIELDS,
    FIELDS,
    PEFT_TYPE,
    Method,
    fields_of,
)
from adalora_core.config.fields.tools import BY_MARKER, PREFIX, Layout, Tool
from adalora_core.config.fields.value_kinds import name_of_value
from adalora_core.floor.module_selection import ALL_LINEAR
from adalora_core.floor.places import Path, from_pointer, to_pointer

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.documents.python.script import Call
    from adalora_core.checker.pipeline import CheckOptions

MOST_TRIALS = 64
"""The most combinations of a sweep that are checked."""
_LEAST_NAMES = 3
"""The fewest names of AdaLoRA in a mapping that is taken for a configuration without a method."""
_WRITTEN = {"toml": 'peft_type = "ADALORA"', "json": '"peft_type": "ADALORA"'}
"""The missing key as a format writes it, where not as YAML does."""
_METHOD_MARKERS = (
    "method", "peft_method", "lora_type", "adapter_type", "adapter", "finetuning_type",
    "train_type", "tuner_type", "sft_type", "peft",
)  # fmt: skip
_LOOSE_MARKERS = ("type", "name", "peft_type")
"""Keys whose value `adalora` marks a mapping only together with names that AdaLoRA alone has."""
_SECTIONS = ("adalora", "adalora_config", "lora", "lora_config", "peft_config", "peft", "adapter")
_SEARCHES = frozenset({"grid", "random", "bayes"})
"""The methods of a sweep of Weights & Biases."""


class Search:
    """The search for configurations in a document, in one layout or, with None, in every one."""

    def __init__(
        self, document: Document, options: CheckOptions, layout: Layout | None = None
    ) -> None:
        self._document = document
        self._options = options
        self._layouts = ("peft", "prefixed", "section", "flat") if layout is None else (layout,)
        self._expressions = Expressions()

    def calls(self) -> list[Block]:
        """Return a block for each call of the class in the code of the document."""
        # Imported for code only: the modules take time.
        from adalora_core.checker.documents.python.script import CLASS

        script = self._document.script
        calls = script.calls if script else ()
        return [self._of_call(call, (CLASS, index)) for index, call in enumerate(calls)]

    def _of_call(self, call: Call, path: Path, method: Method = PEFT_TYPE) -> Block:
        from adalora_core.checker.documents.python.values import holds_unknown

        runtime = self._options.runtime if call.door == "peft" else "adalora-core"
        fields = fields_of(runtime, method).keys()
        absent = fields - call.values.keys() if call.is_open else ()
        deferred = frozenset(fields & {*call.deferred, *absent})
        values = {
            name: None if holds_unknown(value) else value
            for name, value in call.values.items()
            if name not in deferred
        }
        options = replace(self._options, runtime=runtime)
        more: dict[str, Any] = {"deferred": deferred, "door": call.door, "method": method}
        return self._block(path, values, options, layout="python", **more)

    def everywhere(self) -> list[Block]:
        """Return every AdaLoRA block of the document, in the order of the text.

        The search ends at the first step that finds a block: mappings of known tools or with
        `peft_type` ADALORA in any spelling of case; mappings in the layout of an unknown tool,
        layout by layout; the whole document, if it has a `peft_type` or a key that only AdaLoRA
        has.
        """
        value = self._document.value
        if not isinstance(value, (dict, list)):
            return []
        mappings = self._mappings
        if blocks := list(self._named(mappings)):
            return blocks
        for layout, find in (
            ("flat", self._swept),
            ("prefixed", self._prefixed),
            ("section", self._in_section),
            ("flat", self._flat),
        ):
            found = starmap(find, mappings) if layout in self._layouts else ()
            if blocks := list(chain.from_iterable(found)):
                return blocks
        top = value if isinstance(value, dict) else {}
        is_one = "peft_type" in top or not ADALORA_FIELDS.isdisjoint(top)
        return [self._block((), top)] if is_one and "peft" in self._layouts else []

    def at_pointer(self, key: str) -> Block | Problem:
        """Return the block at a JSON pointer, or why there is none."""
        path: Path = ()
        value = self._document.value
        for step in from_pointer(key):
            known, value = _step(value, step)
            if known is None:
                return Problem(problems.NO_BLOCK, f"the document has no value at {key!r}", path)
            path = (*path, known)
        if not isinstance(value, dict):
            message = f"a configuration should be an object with keys, got {name_of_value(value)}"
            return Problem(problems.NOT_A_MAPPING, message, path)
        return self._block(path, value)

    def likely_cause(self) -> Problem | None:
        """Return the problem of a document without any mapping, or of one without its method.

        One of the names of such a mapping has to be one that hardly any other program uses.
        """
        document = self._document
        if document.script is not None:
            return None
        if not (isinstance(document.value, (dict, list)) and self._mappings):
            found = self.at_pointer("")
            return found if isinstance(found, Problem) else None
        for path, values in self._mappings:
            names = ADALORA_FIELDS & values.keys()
            is_alike = len(names) >= _LEAST_NAMES and not names.isdisjoint(DISTINCTIVE_FIELDS)
            if path and is_alike and "peft_type" not in values:
                place, key = to_pointer(path), "peft_type"
                hint = f"write `{_WRITTEN.get(document.format, 'peft_type: ADALORA')}` into it"
                if path == ("peft_config",) and "model" in document.value:  # of LLaMA-Factory
                    key, hint = "name", "write `name: adalora` into it"
                message = f"`{place}` looks like an AdaLoRA configuration and lacks `{key}`"
                return Problem(problems.NO_BLOCK, message, path, at="key", hint=hint)
        return None

    @cached_property
    def _mappings(self) -> list[tuple[Path, dict[Any, Any]]]:
        """Every mapping of the document once, outer mappings first."""
        mappings: list[tuple[Path, dict[Any, Any]]] = []
        queue: deque[tuple[Path, Any]] = deque([((), self._document.value)])
        seen: set[int] = set()
        while queue and len(seen) < self._options.limits.nodes:
            path, node = queue.popleft()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, dict):
                mappings.append((path, node))
            entries = node.items() if isinstance(node, dict) else enumerate(node)
            queue += [((*path, key), v) for key, v in entries if isinstance(v, (dict, list))]
        return mappings

    def _block(
        self, path: Path, values: dict[Any, Any], options: CheckOptions | None = None, **more: Any
    ) -> Block:
        return Block(
            values,
            path,
            options or self._options,
            root=self._document.value,
            ambiguous_scalars=self._document.ambiguous_scalars,
            expressions=self._expressions,
            **more,
        )

    def _named(self, mappings: list[tuple[Path, dict[Any, Any]]]) -> Iterator[Block]:
        """Yield the whole document if it has a `peft_type`, else every mapping that names AdaLoRA.

        Such a mapping is in the form of a known tool, or has the `peft_type` ADALORA.
        """
        for path, values in mappings:
            block = self._of_known_tool(path, values)
            if block is not None:
                yield block
            elif "peft" in self._layouts and isinstance(values.get("peft_type"), str):
                has_fields = not ADALORA_FIELDS.isdisjoint(values)
                if not has_fields and _has_prefixed_fields(values):
                    continue
                # Without a field of AdaLoRA, another spelling of the word is a setting of the tool.
                is_peft = has_fields or values["peft_type"] == PEFT_TYPE
                if not path or (_names_adalora(values, "peft_type") and is_peft):
                    yield self._block(path, values)
                if not path:
                    return

    def _of_known_tool(self, path: Path, values: dict[Any, Any]) -> Block | None:
        """Return the block of a mapping that a known tool reads, if it is one."""
        for marker, tools in BY_MARKER.items():
            if marker in values and _names_adalora(values, marker):
                for tool in tools:
                    if tool.layout not in self._layouts or not tool.reads(path, values):
                        continue
                    place = (*path, marker)
                    if tool.section is not None:
                        path, values = (*path, tool.section), values[tool.section]
                    return self._translated(path, values, tool.layout, tool, place)
        return None

    def _swept(self, path: Path, values: dict[Any, Any]) -> Iterator[Block]:
        """Yield a block for each combination of values of a sweep of Weights & Biases."""
        fields = values.get("parameters")
        if not isinstance(fields, dict) or str(values.get("method")) not in _SEARCHES:
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
            yield self._block(
                top,
                {name: value for name, (_, value) in chosen.items()},
                keys={name: (*top, *place) for name, (place, _) in chosen.items()},
                layout="flat",
                deferred=frozenset(choices.keys() - known.keys()),
            )

    def _prefixed(self, path: Path, values: dict[Any, Any]) -> Iterator[Block]:
        """Yield the block of keys with the prefix `adalora_`, with the others that PEFT knows."""
        if _has_prefixed_fields(values):
            yield self._translated(path, values, "prefixed")

    def _in_section(self, path: Path, values: dict[Any, Any]) -> Iterator[Block]:
        """Yield the section of PEFT's names beside a key whose value is adalora."""
        mark = _mark(values)
        name = _section(values, is_loose=mark == "loose") if mark else None
        if name is not None:
            yield self._translated((*path, name), values[name], "section")

    def _flat(self, path: Path, values: dict[Any, Any]) -> Iterator[Block]:
        """Yield the whole mapping if a key has the value adalora or Hydra's key names the class."""
        hydra = values.get("_target_")
        is_class = isinstance(hydra, str) and hydra.rpartition(".")[2] == "AdaLoraConfig"
        mark = "sure" if is_class else _mark(values)
        if mark == "sure" or (mark == "loose" and not DISTINCTIVE_FIELDS.isdisjoint(values)):
            yield self._translated(path, values, "flat")

    def _translated(
        self,
        path: Path,
        values: dict[Any, Any],
        layout: Layout,
        tool: Tool | None = None,
        marker: Path | None = None,
    ) -> Block:
        """Return the block of a mapping under PEFT's names, without what a run alone can tell."""
        own = {} if tool is None else tool.keys
        spelled: dict[Any, Any] = {}
        skipped = () if path or tool is None else tool.refused_keys
        for key, value in values.items():
            if key in skipped:
                continue
            if key in own:
                if value not in (None, []):
                    spelled[own[key]] = key
            elif layout == "prefixed" and _has_prefix(key):
                spelled[key.removeprefix(PREFIX)] = key
        taken = {*spelled, *spelled.values(), *own}
        for key in (key for key in values if key not in skipped):
            is_marker = _names_adalora(values, key) and (key != "peft_type" or layout == "prefixed")
            if key not in taken and not is_marker and (layout != "prefixed" or key in FIELDS):
                spelled[key] = key
        deferred = self._deferred(spelled, values)
        keys: dict[str, Path] = {name: (*path, key) for name, key in spelled.items()}
        known = {name: values[key] for name, key in spelled.items()}
        if tool is not None:
            deferred |= tool.maps
            self._complete(tool, known, keys)
        return self._block(
            path,
            {name: value for name, value in known.items() if name not in deferred},
            keys=keys,
            layout=layout,
            tool=tool,
            marker=marker,
            deferred=deferred,
        )

    def _complete(self, tool: Tool, known: dict[Any, Any], keys: dict[str, Path]) -> None:
        """Put what a tool computes from its file into the values of PEFT's fields."""
        if tool.expands and "target_modules" in known:
            known["target_modules"] = expanded(known["target_modules"])
        top = self._document.value
        is_asked = tool.total_step == "computed" and "total_step" not in known
        steps = top.get("max_steps") if is_asked and isinstance(top, dict) else None
        if type(steps) is int and steps > 0:
            known["total_step"], keys["total_step"] = steps, ("max_steps",)

    def _deferred(
        self, spelled: dict[Any, Any], values: dict[Any, Any], method: Method = PEFT_TYPE
    ) -> frozenset[str]:
        """Return the fields whose value is an interpolation of OmegaConf, known in the run."""
        texts = {n for n, k in spelled.items() if isinstance(values[k], str) and "${" in values[k]}
        return frozenset(texts & fields_of(self._options.runtime, method).keys())


def expanded(value: Any) -> Any:
    """Return `all-linear` for a list that holds it."""
    return ALL_LINEAR if isinstance(value, list) and ALL_LINEAR in value else value


def _step(value: Any, step: str) -> tuple[str | int | None, Any]:
    if isinstance(value, dict) and step in value:
        return step, value[step]
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return int(step), value[int(step)]
    return None, None


def _names_adalora(values: dict[Any, Any], key: str) -> bool:
    """Return whether a key has the value ADALORA, in any spelling of case."""
    value = values.get(key)
    return isinstance(value, str) and value.strip().upper() == PEFT_TYPE


def _mark(values: dict[Any, Any]) -> Literal["sure", "loose"] | None:
    if any(_names_adalora(values, marker) for marker in _METHOD_MARKERS):
        return "sure"
    return "loose" if any(_names_adalora(values, marker) for marker in _LOOSE_MARKERS) else None


def _section(values: dict[Any, Any], *, is_loose: bool) -> str | None:
    """Return the key of the section that holds PEFT's names."""
    sections = {name: entry for name, entry in values.items() if isinstance(entry, dict)}
    distinctive = (n for n, entry in sections.items() if not DISTINCTIVE_FIELDS.isdisjoint(entry))
    named = _SECTIONS[:2] if is_loose else _SECTIONS
    return next((name for name in chain(named, distinctive) if name in sections), None)


def _has_prefixed_fields(values: dict[Any, Any]) -> bool:
    """Return whether a mapping has fields of AdaLoRA under the prefix `adalora_`."""
    names = {key.removeprefix(PREFIX) for key in values if _has_prefix(key)}
    return not ADALORA_FIELDS.isdisjoint(names)


def _has_prefix(key: Any) -> bool:
    return isinstance(key, str) and key.startswith(PREFIX)


def _choices(entry: dict[str, Any], key: str) -> list[tuple[Path, Any]]:
    """Return the values of one parameter of a sweep; none if they are drawn from a range."""
    if "value" in entry:
        return [((key, "value"), entry["value"])]
    listed = values if isinstance(values := entry.get("values"), list) else []
    return [((key, "values", number), value) for number, value in enumerate(listed)]
