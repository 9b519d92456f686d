"""Define the kinds of values that a field can have: how to test, name and describe each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adalora_core.floor.places import Path


@dataclass(frozen=True, slots=True, eq=False)
class ValueKind:
    """One kind of JSON value.

    `phrase` names it in a message. `schema` accepts the same values, in the subset that means the
    same in draft-07 and 2020-12.
    """

    phrase: str
    schema: Mapping[str, Any]


def _scores_triplets(value: Any) -> bool:
    """Return whether `value` looks callable with a path and tensors."""
    if not callable(value):
        return False
    try:
        signature = inspect.signature(value)
    except Exception:  # noqa: BLE001 - functions in C have none, annotations may be any code
        return True
    try:
        signature.bind("", {})
    except TypeError:
        return False
    return True


def _list_of(item: ValueKind, phrase: str, **length: int) -> ValueKind:
    return ValueKind(phrase, {"type": "array", "items": item.schema, **length})


NULL = ValueKind("null", {"type": "null"})
STRING = ValueKind("a string", {"type": "string"})
BOOLEAN = ValueKind("true or false", {"type": "boolean"})
INTEGER = ValueKind("an integer", {"type": "integer"})
NUMBER = ValueKind("a number", {"type": "number"})
OBJECT = ValueKind("an object", {"type": "object"})
FUNCTION = ValueKind("a function of (path, tensors)", {"not": {}})
"""A value of a configuration in Python alone; a file cannot hold it."""
STRINGS = _list_of(STRING, "a list of strings")
INTEGERS = _list_of(INTEGER, "a list of integers")
BOOLEANS = _list_of(BOOLEAN, "a list of true and false")
INTEGER_PAIRS = _list_of(
    _list_of(INTEGER, "a pair of integers", minItems=2, maxItems=2), "a list of pairs of integers"
)
TOKEN_INDICES = ValueKind(
    "an object of lists of integers",
    {"type": "object", "additionalProperties": INTEGERS.schema},
)

_TYPES: dict[str, type | tuple[type, ...]] = {
    "null": type(None), "string": str, "boolean": bool, "integer": int, "number": (int, float),
    "object": dict, "array": list,
}  # fmt: skip


def _wrong_at(schema: Mapping[str, Any], value: Any) -> Path | None:
    """Return None for a value that fits the schema of a kind, else the path of the wrong part."""
    if schema is FUNCTION.schema:
        return None if _scores_triplets(value) else ()
    # To Python, true and false are integers.
    is_other = isinstance(value, bool) and schema["type"] != "boolean"
    is_right = isinstance(value, _TYPES[schema["type"]])
    if is_other or not is_right:
        return ()
    inner = schema.get("items", schema.get("additionalProperties"))
    if inner is None:
        return None
    if len(value) != schema.get("minItems", len(value)):
        return ()
    for step, entry in value.items() if isinstance(value, dict) else enumerate(value):
        below = _wrong_at(inner, entry)
        if below is not None:
            return (step, *below)
    return None


def phrase_of(kinds: tuple[ValueKind, ...]) -> str:
    """Name the alternatives: `a string, a list of strings or null`."""
    *head, last = [kind.phrase for kind in kinds]
    return f"{', '.join(head)} or {last}" if head else last


def wrong_at(kinds: tuple[ValueKind, ...], value: Any) -> Path | None:
    """Return None if `value` is of one of the kinds, else the path of the part that is wrong.

    Of several kinds, the one that fits furthest decides which part is wrong: `["q", 3]` is a list
    of strings with a wrong second entry, not a wrong string.
    """
    furthest: Path = ()
    for kind in kinds:
        path = _wrong_at(kind.schema, value)
        if path is None:
            return None
        if len(path) > len(furthest):
            furthest = path
    return furthest


LARGEST_INTEGER = 2**63 - 1
"""The largest integer of torch and of many JSON readers; Python cannot divide much larger ones."""


def number_text(value: float) -> str:
    """Return a number as text; of an integer above 64 bits only its size."""
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)


def name_of_value(value: Any) -> str:
    """Name a value in a message: `the string "12"`, `a list`, `true`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {number_text(value)}"
    if isinstance(value, str):
        shown = value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "..."
        return f'the string "{shown}"'
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, FunctionType):
        code = value.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return f"a function of ({', '.join(names)})"
    return f"a {type(value).__name__}"


_SHOWN = 60
