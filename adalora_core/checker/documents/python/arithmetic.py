"""Compute with the known values of a script, within bounds."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any, Final


class _Unknown:
    """The type of UNKNOWN."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __deepcopy__(self, memo: object) -> _Unknown:
        return self


UNKNOWN: Final = _Unknown()
"""The value of an expression that only a run can tell; as a key, it stands for further keys."""

LONGEST = 4096
"""Bound on the entries and characters of a computed value."""
_LARGEST = 1 << 256
_MOST_DIGITS = 400
"""More than any known number has before its point: `round` drops all of them alike."""

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "round": lambda number, *digits: round(number, *(max(each, -_MOST_DIGITS) for each in digits)),
    "abs": abs,
    "max": max,
    "min": min,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
}
"""Functions of known numbers and short texts."""


def without_repeats(values: list[Any]) -> list[Any]:
    """Return the entries of a set in the order of the code."""
    found: dict[str, Any] = {}
    for each in values:
        is_whole = isinstance(each, int) or (isinstance(each, float) and each.is_integer())
        found.setdefault(repr(int(each) if is_whole else each), each)
    return list(found.values())


def _sorted(values: list[Any]) -> Any:
    try:
        return sorted(values) if all(map(_is_computable, values)) else UNKNOWN
    except TypeError:
        return UNKNOWN


COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list, "tuple": list, "set": without_repeats, "frozenset": without_repeats,
    "sorted": _sorted,
}  # fmt: skip
"""Functions that make a list of a list."""


def range_of(values: list[Any]) -> Any:
    """Return the numbers of a range as a list, within bounds."""
    if not 1 <= len(values) <= 3 or not all(type(value) is int for value in values):  # noqa: PLR2004
        return UNKNOWN
    try:
        found = range(*values)
        return list(found) if len(found) <= LONGEST else UNKNOWN
    except (ValueError, OverflowError):
        return UNKNOWN


def computed(function: Callable[..., Any], *values: Any) -> Any:
    """Return the value of a function of numbers and short texts, within bounds."""
    if not values or not all(map(_is_computable, values)):
        return UNKNOWN
    if function is operator.mul and any(isinstance(value, str) for value in values):
        return UNKNOWN
    try:
        result = function(*values)
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN
    return result if _is_computable(result) else UNKNOWN


def _is_computable(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= _LARGEST)
