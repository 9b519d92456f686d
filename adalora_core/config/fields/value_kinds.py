"""Define the kinds of values that a field can have: how to test, name and describe each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adalora_core.floor.places import Path


@dataclass(frozen=True, slots=True, eq=False)
class ValueKind:
    """One kind of JSON value.

    `phrase` names it in a message. `schema` accepts the same values, in the subset that means the
    same in draft-07 and 2020-12. `wrong_at` returns None for a value of this kind, else the path of
    the first part that is not.
    """

    phrase: str
    schema: Mapping[str, Any]
    wrong_at: Callable[[Any], Path | None]


def _scalar(*types: type) -> Callable[[Any], Path | None]:
    def wrong_at(value: Any) -> Path | None:
        # To Python, true and false are integers.
        is_right = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        return None if is_right else ()

    return wrong_at


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


def _list_of(item: ValueKind, phrase: str, length: int | None = None) -> ValueKind:
    schema: dict[str, Any] = {"type": "array", "items": item.schema}
    if length is not None:
        schema |= {"minItems": length, "maxItems": length}
    return ValueKind(phrase, schema, _entries_of(item, list, length))


def _entries_of(
    item: ValueKind, holder: type[list[Any] | dict[Any, Any]], length: int | None = None
) -> Callable[[Any], Path | None]:
    def wrong_at(value: Any) -> Path | None:
        if not isinstance(value, holder) or length not in (None, len(value)):
            return ()
        for step, entry in value.items() if isinstance(value, dict) else enumerate(value):
            inner = item.wrong_at(entry)
            if inner is not None:
                return (step, *inner)
        return None

    return wrong_at


NULL = ValueKind("null", {"type": "null"}, _scalar(type(None)))
STRING = ValueKind("a string", {"type": "string"}, _scalar(str))
BOOLEAN = ValueKind("true or false", {"type": "boolean"}, _scalar(bool))
INTEGER = ValueKind("an integer", {"type": "integer"}, _scalar(int))
NUMBER = ValueKind("a number", {"type": "number"}, _scalar(int, float))
OBJECT = ValueKind("an object", {"type": "object"}, _scalar(dict))
FUNCTION = ValueKind(
    "a function of (path, tensors)", {"not": {}}, lambda v: None if _scores_triplets(v) else ()
)
"""A value of a configuration in Python alone; a file cannot hold it."""
STRINGS = _list_of(STRING, "a list of strings")
INTEGERS = _list_of(INTEGER, "a list of integers")
BOOLEANS = _list_of(BOOLEAN, "a list of true and false")
INTEGER_PAIRS = _list_of(
    _list_of(INTEGER, "a pair of integers", length=2), "a list of pairs of integers"
)
TOKEN_INDICES = ValueKind(
    "an object of lists of integers",
    {"type": "object", "additionalProperties": INTEGERS.schema},
    _entries_of(INTEGERS, dict),
)


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
        path = kind.wrong_at(value)
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
