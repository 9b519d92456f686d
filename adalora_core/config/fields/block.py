"""Hold the mapping of a configuration with the faults of each field, as the rules read it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.expressions import Expressions
from adalora_core.config.fields.readings import Reading, reading_of
from adalora_core.config.fields.table import (
    DISTINCTIVE_FIELDS,
    FIELDS,
    LORA,
    PEFT_TYPE,
    Field,
    Method,
    Runtime,
    fields_of,
    says_lora,
)
from adalora_core.config.fields.tools import Layout, Tool
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.budget import BudgetSchedule
from adalora_core.floor.places import AmbiguousScalar, Path

Door = Literal["own", "bridge", "peft"]
"""Where a script has `AdaLoraConfig` from: this package, whose `get_peft_model` makes a model then;
`adalora_core.peft`, with which PEFT makes a model that the bridge serves; or PEFT."""
AUTO = "auto"
"""A `total_step` that a trainer's callback later replaces by the number; PEFT refuses it."""


@dataclass(frozen=True, slots=True)
class BlockOptions:
    """Options that decide how a configuration is judged.

    With `strict_types` a value of another type is an error also where the runtime works. Without a
    `peft_version` the releases that the contract describes count.
    """

    runtime: Runtime = "peft"
    strict_keys: bool = False
    strict_types: bool = False
    peft_version: tuple[int, ...] | None = None


FaultKind = Literal["unknown", "type", "integral-float", "nonfinite", "range", "choice"]
"""The ways in which a key or its value can be wrong on its own."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A key or value that is wrong on its own; rules on several fields skip it if it fails.

    `value` is the wrong part, to which `subpath` leads. `reading` is what the runtime makes of the
    value; None: the runtime fails with it.
    """

    name: str
    kind: FaultKind
    value: Any = None
    subpath: Path = ()
    reading: Reading | None = None


@dataclass
class Block:
    """A mapping of PEFT keys and what is known about its surroundings.

    Args:
        values: the mapping, under PEFT's names.
        path: its path in the document.
        options: how to judge the mapping.
        keys: `{PEFT's name: path}` where the document spells or places a key differently.
        root: the whole document, for rules that look at the trainer's own settings.
        ambiguous_scalars: scalars that YAML reads unexpectedly, by their places.
        expressions: judges the regular expressions of the document.
        layout: how the tool that owns the file writes the settings.
        tool: the tool that owns the file, if it is a known one.
        marker: the path of the key that names AdaLoRA in that tool's file.
        deferred: fields whose value is known only when the run starts; they are not in `values`.
        door: through which package the model will be made; None: that is not known.
        method: the method that is configured; under `peft` also LoRA where `peft_type` names it.
    """

    values: Mapping[str, Any]
    path: Path = ()
    options: BlockOptions = BlockOptions()
    keys: Mapping[str, Path] = field(default_factory=dict)
    root: Any = None
    ambiguous_scalars: Mapping[Path, AmbiguousScalar] = field(default_factory=dict)
    expressions: Expressions = field(default_factory=Expressions)
    layout: Layout = "peft"
    tool: Tool | None = None
    marker: Path | None = None
    deferred: frozenset[str] = frozenset()
    door: Door | None = None
    method: Method = PEFT_TYPE
    _faults: list[Fault] = field(init=False)
    as_read: Mapping[str, Any] = field(init=False)
    """The mapping with each value that the runtime reads in another type in that type."""
    changed: frozenset[str] = field(init=False)
    """Fields that differ from their defaults."""
    fields: Mapping[str, Field] = field(init=False)
    """The fields that a configuration of the method can have, whatever the runtime."""
    invalid: frozenset[str] = field(init=False)
    """Fields that are wrong on their own or not known yet; rules on several fields skip them."""

    def __post_init__(self) -> None:
        """Judge each field on its own, once for all rules."""
        if self.runtime == "peft" and says_lora(self.values):
            self.method = LORA
        if self.is_lora:  # PEFT alone trains it
            self.options = replace(self.options, runtime="peft")
        self.fields = fields_of("adalora-core", self.method)
        self._faults, changed, read = _judged(self.values, self.runtime, self.method)
        self.changed = frozenset(changed)
        if self.tool is not None:
            self.changed |= self.tool.defaults.keys() - self.values.keys()
        self.as_read = {**self.values, **read} if read else self.values
        self.invalid = self.deferred.union(
            fault.name for fault in self._faults if not self._is_computable(fault)
        )
        if self.runtime == "adalora-core" and self.values.get("total_step") == AUTO:
            # Valid here, but not a number yet: rules on several fields still skip it.
            self.as_read = {**self.as_read, "total_step": AUTO}
            self._faults = [fault for fault in self._faults if fault.name != "total_step"]
        if scalars := self.ambiguous_scalars:
            known = {name: self.at(name) for name in self.values if name in FIELDS}
            self.misread_fields = frozenset(
                name
                for name, at in known.items()
                if at in scalars and scalars[at].kind != "underscore"
                if scalars[at].kind != "boolean-word" or kinds.BOOLEAN not in FIELDS[name].kinds
            )
            self.invalid |= self.misread_fields

    def _is_computable(self, fault: Fault) -> bool:
        """Whether the runtime computes with a wrong value, so that the rules can too."""
        if fault.reading is not None:
            return fault.reading.is_read
        if fault.kind != "range" or fault.name not in {"tinit", "tfinal", "deltaT"}:
            return False
        refused = self.runtime == "adalora-core" and not self.is_saved
        return not refused and self[fault.name] != 0 and not is_large(self, fault.name)

    misread_fields: frozenset[str] = field(default=frozenset(), init=False)
    """Fields whose value YAML reads as something else; rules outside ADA6xx skip them."""

    @property
    def runtime(self) -> Runtime:
        """The library that will train."""
        return self.options.runtime

    def faults(self, *kinds: FaultKind) -> Iterator[Fault]:
        """Yield the faults of these kinds."""
        return (fault for fault in self._faults if fault.kind in kinds)

    def __getitem__(self, name: str) -> Any:
        """Return the value of a field, or the tool's or PEFT's default where the key is absent."""
        if name in self.as_read:
            return self.as_read[name]
        if self.tool is not None and name in self.tool.defaults:
            return self.tool.defaults[name]
        return self.fields[name].default

    def at(self, name: str, *subpath: str | int) -> Path:
        """Return the path of a field, or of the block itself where the key is absent."""
        if name not in self.values:
            return self.path
        return (*self.keys.get(name, (*self.path, name)), *subpath)

    def at_first(self, *names: str) -> Path:
        """Return the path of the first of these fields that is present, or of the block itself."""
        return self.at(next((name for name in names if name in self.values), names[0]))

    def notes(self, *names: str) -> tuple[tuple[Path, str], ...]:
        """Return a note with the value of each of these fields that is present."""
        return tuple((self.at(n), f"{n} is {self[n]}") for n in names if n in self.values)

    def is_set(self, name: str) -> bool:
        """Return whether a field is present, neither null nor empty, and not its default."""
        empty: tuple[Any, ...] = (None, {}, [], self.fields[name].default)
        return name in self.changed and self.as_read.get(name) not in empty

    @property
    def is_other_method(self) -> bool:
        """Whether peft_type names another method than the block's, and no other rule applies."""
        value = self.values.get("peft_type")
        return isinstance(value, str) and value.strip().upper() != self.method

    @property
    def is_lora(self) -> bool:
        """Whether the configuration is one of LoRA."""
        return self.method == LORA

    @property
    def is_unambiguous(self) -> bool:
        """Whether the block is AdaLoRA's beyond doubt, and not another program's.

        Names that others use too are not enough, nor are two of AdaLoRA's own among more foreign
        keys: a table of results holds those.
        """
        if self.layout != "peft" or "peft_type" in self.values:
            return True
        own = len(DISTINCTIVE_FIELDS & self.values.keys())
        known = len(FIELDS.keys() & self.values.keys())
        return own > 2 or (own > 0 and 2 * known >= len(self.values))  # noqa: PLR2004 - see above

    @cached_property
    def schedule(self) -> BudgetSchedule | None:
        """The budget schedule, or None if there is no step in which the budget could fall."""
        total_step = self["total_step"]
        if total_step is None or self["tinit"] >= total_step - self["tfinal"]:
            return None
        names = ("init_r", "target_r", "tinit", "tfinal", "total_step")
        # PEFT tests step % deltaT == 0, which does not depend on the sign.
        spec = AdapterSpec(**{name: self[name] for name in names}, deltaT=abs(self["deltaT"]))
        return spec.schedule()

    @property
    def allocates(self) -> bool:
        """Whether some step of the run chooses the kept triplets; true if that is not known."""
        tinit, tfinal, total_step = self["tinit"], self["tfinal"], self["total_step"]
        if not self.invalid.isdisjoint({"tinit", "tfinal", "total_step"}) or total_step is None:
            return True
        if tinit == total_step - tfinal - 1:  # no budgeting phase, whatever deltaT is
            return bool(tfinal > 0)
        if "deltaT" in self.invalid or self.schedule is None:
            return True
        return self.schedule.tfinal > 0 or self.schedule.allocation_count() > 0

    @property
    def is_refused(self) -> bool:
        """Whether the tool that owns the file refuses it, so that no other finding matters.

        A section of the same form may be somebody's own.
        """
        tool = None if self.path else self.tool
        return tool is not None and tool.refuses and tool.unless not in self.values

    @property
    def is_saved(self) -> bool:
        """Whether the block is that of a saved adapter: PEFT sets inference_mode at every save."""
        return self["inference_mode"] is True


def is_large(block: Block, name: str) -> bool:
    """Return whether a number does not fit into 64 bits."""
    value = block[name]
    return isinstance(value, int) and abs(value) > kinds.LARGEST_INTEGER


def _judged(
    values: Mapping[str, Any], runtime: Runtime, method: Method
) -> tuple[list[Fault], set[str], dict[str, Any]]:
    """Judge each key and value on its own.

    Returned are the faults, the fields that differ from their defaults, and of those what the
    runtime reads in place of the value.
    """
    found: list[Fault] = []
    changed: set[str] = set()
    read: dict[str, Any] = {}
    fields = fields_of(runtime, method)
    for name, value in values.items():
        field = fields.get(name) if isinstance(name, str) else None
        if field is None:
            found.append(Fault(name, "unknown", value))
            continue
        if type(value) is type(field.default) and value == field.default:
            continue
        changed.add(name)
        fault = _fault_of(field, value)
        if fault is None:
            continue
        reading = None
        if fault.kind != "range" and (fault.kind != "choice" or runtime == "peft"):
            reading = reading_of(field, value, values, runtime, method)
        if reading is not None:
            read[name] = reading.value
            is_legal = not field.is_number or not _is_out_of_range(field, reading.value)
            fault = replace(fault, reading=reading) if is_legal else Fault(name, "range", value)
        found.append(fault)
    return found, changed, read


def _is_out_of_range(field: Field, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return (
        (isinstance(value, int) and abs(value) > kinds.LARGEST_INTEGER)
        or (field.least is not None and value < field.least)
        or (field.above is not None and value <= field.above)
        or (field.below is not None and value >= field.below)
    )


def _fault_of(field: Field, value: Any) -> Fault | None:
    subpath = kinds.wrong_at(field.kinds, value)
    for step in subpath or ():
        value = value[step]
    is_finite = not isinstance(value, float) or math.isfinite(value)
    kind: FaultKind | None = None
    if subpath is not None:
        wants_integer = field.kinds[0] is not kinds.NUMBER and any(
            each in field.kinds for each in (kinds.INTEGER, kinds.INTEGERS)
        )
        is_integral = isinstance(value, float) and value.is_integer()
        kind = "type" if is_finite else "nonfinite"
        if wants_integer and is_integral and abs(value) <= kinds.LARGEST_INTEGER:
            kind = "integral-float"
    elif isinstance(value, str):
        kind = None if field.choices is None or value in field.choices else "choice"
    elif field.is_number and not (is_finite and not _is_out_of_range(field, value)):
        kind = "range" if is_finite else "nonfinite"
    return None if kind is None else Fault(field.name, kind, value, subpath or ())


def fits_field(field: Field, value: Any) -> bool:
    """Return whether a value is valid for a field, whatever the other fields are."""
    return _fault_of(field, value) is None


def range_phrase(field: Field) -> str:
    """Name the legal range of a number: `at least 1`, `above 0 and below 1`."""
    words = (
        ("at least", field.least),
        ("above", field.above),
        ("below", field.below),
    )
    return " and ".join(f"{word} {bound}" for word, bound in words if bound is not None)
