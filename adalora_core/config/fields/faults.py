"""Check each field on its own, before the rules that compare several fields."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.readings import Reading, reading_of, reading_of_word
from adalora_core.config.fields.table import Field, fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adalora_core.config.fields.table import Runtime
    from adalora_core.floor.places import Path


class FaultKind(enum.Enum):
    """The ways in which a key or its value can be wrong on its own."""

    UNKNOWN = enum.auto()
    TYPE = enum.auto()
    INTEGRAL_FLOAT = enum.auto()
    NONFINITE = enum.auto()
    RANGE = enum.auto()
    CHOICE = enum.auto()


@dataclass(frozen=True, slots=True)
class Fault:
    """A key or value that is wrong on its own; rules on several fields skip it if it fails.

    Args:
        name: the key.
        kind: the way in which it is wrong.
        subpath: the path of the wrong part inside the value.
        reading: what the runtime makes of the value; None: the runtime fails with it.
    """

    name: str
    kind: FaultKind
    subpath: Path = ()
    reading: Reading | None = None


class Judged(NamedTuple):
    """The fields of a configuration, each judged on its own.

    Args:
        faults: the faults, in the order of the keys.
        changed: the fields that differ from their defaults.
        read: `{field: value}` where the runtime reads another value than the one in the file.
    """

    faults: list[Fault]
    changed: set[str]
    read: dict[str, Any]


def judge_fields(values: Mapping[str, Any], runtime: Runtime = "peft") -> Judged:
    """Judge each key and value on its own."""
    found: list[Fault] = []
    changed: set[str] = set()
    read: dict[str, Any] = {}
    fields = fields_of(runtime)
    for name, value in values.items():
        field = fields.get(name) if isinstance(name, str) else None
        if field is None:
            found.append(Fault(name, FaultKind.UNKNOWN))
            continue
        default = field.default
        # The usual case of a saved adapter, where nearly every field has its default.
        if value is default or (type(value) is type(default) and value == default):
            continue
        changed.add(name)
        if field.surely_fits(value):
            continue
        fault = _fault_of(field, value)
        if fault is None:
            continue
        reading = None
        if fault.kind is FaultKind.CHOICE:
            reading = reading_of_word(name, value, runtime)
        elif fault.kind in _OF_TYPE:
            reading = reading_of(field, value, values, runtime)
        if reading is not None:
            read[name] = reading.value
            is_legal = not field.is_number or not _is_out_of_range(field, reading.value)
            fault = replace(fault, reading=reading) if is_legal else Fault(name, FaultKind.RANGE)
        found.append(fault)
    return Judged(found, changed, read)


_OF_TYPE = (FaultKind.TYPE, FaultKind.INTEGRAL_FLOAT, FaultKind.NONFINITE)


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
    if subpath is not None:
        part = value
        for step in subpath:
            part = part[step]
        wants_integer = field.kinds[0] is not kinds.NUMBER and any(
            kind in field.kinds for kind in (kinds.INTEGER, kinds.INTEGERS)
        )
        is_integral = isinstance(part, float) and part.is_integer()
        if wants_integer and is_integral and abs(part) <= kinds.LARGEST_INTEGER:
            return Fault(field.name, FaultKind.INTEGRAL_FLOAT, subpath)
        if isinstance(part, float) and not math.isfinite(part):
            return Fault(field.name, FaultKind.NONFINITE, subpath)
        return Fault(field.name, FaultKind.TYPE, subpath)
    if isinstance(value, str):
        wrong = field.choices is not None and value not in field.choices
        return Fault(field.name, FaultKind.CHOICE) if wrong else None
    if field.is_number and isinstance(value, float) and not math.isfinite(value):
        return Fault(field.name, FaultKind.NONFINITE)
    if field.is_number and _is_out_of_range(field, value):
        return Fault(field.name, FaultKind.RANGE)
    return None


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
