"""What is wrong with single fields: the pass that every cross-field rule relies on."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adalora_core.contract.fields import value_kinds as kinds
from adalora_core.contract.fields.table import FIELDS, Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adalora_core.contract.text.places import Path


class FaultKind(enum.Enum):
    """How a value misses its field."""

    UNKNOWN = enum.auto()
    TYPE = enum.auto()
    INTEGRAL_FLOAT = enum.auto()
    NONFINITE = enum.auto()
    RANGE = enum.auto()
    CHOICE = enum.auto()


@dataclass(frozen=True, slots=True)
class Fault:
    """A field's value that no rule on several fields should look at."""

    name: str
    kind: FaultKind
    deeper: Path = ()
    """Path of the wrong part inside the value."""


def judge_fields(values: Mapping[str, Any]) -> tuple[list[Fault], set[str]]:
    """Judge each key and value on its own.

    Returns:
        What is wrong, in the order of the keys, and the fields that differ from their defaults.
    """
    found: list[Fault] = []
    changed: set[str] = set()
    for name, value in values.items():
        field = FIELDS.get(name) if isinstance(name, str) else None
        if field is None:
            found.append(Fault(name, FaultKind.UNKNOWN))
            continue
        default = field.default
        # The usual case of a saved adapter, where nearly every field has its default.
        if value is default or (type(value) is type(default) and value == default):
            continue
        changed.add(name)
        if field.plainly_fits(value):
            continue
        fault = _fault_of(field, value)
        if fault is not None:
            found.append(fault)
    return found, changed


def _fault_of(field: Field, value: Any) -> Fault | None:
    deeper = kinds.wrong_at(field.kinds, value)
    if deeper is not None:
        part = value
        for step in deeper:
            part = part[step]
        wants_integer = field.kinds[0] is not kinds.NUMBER and any(
            shape in field.kinds for shape in (kinds.INTEGER, kinds.INTEGERS)
        )
        if wants_integer and isinstance(part, float) and part.is_integer():
            return Fault(field.name, FaultKind.INTEGRAL_FLOAT, deeper)
        if isinstance(part, float) and not math.isfinite(part):
            return Fault(field.name, FaultKind.NONFINITE, deeper)
        return Fault(field.name, FaultKind.TYPE, deeper)
    if isinstance(value, str):
        wrong = field.choices is not None and value not in field.choices
        return Fault(field.name, FaultKind.CHOICE) if wrong else None
    if field.is_number and isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            return Fault(field.name, FaultKind.NONFINITE)
        if not _in_range(field, value):
            return Fault(field.name, FaultKind.RANGE)
    return None


def fits_alone(field: Field, value: Any) -> bool:
    """Return whether a field could have this value, as far as the field alone can tell."""
    return _fault_of(field, value) is None


def _in_range(field: Field, value: float) -> bool:
    return abs(value) <= kinds.LARGEST_INTEGER and not (
        (field.least is not None and value < field.least)
        or (field.above is not None and value <= field.above)
        or (field.below is not None and value >= field.below)
    )


def range_phrase(field: Field) -> str:
    """Name the legal range of a number: `at least 1`, `above 0 and below 1`."""
    words = (
        ("at least", field.least),
        ("above", field.above),
        ("below", field.below),
    )
    return " and ".join(f"{word} {bound}" for word, bound in words if bound is not None)
