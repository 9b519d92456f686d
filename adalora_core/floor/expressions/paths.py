r"""Judge which module paths a regular expression can match whole, without matching it.

The expression is followed over four states of a path: before it, in its first name, behind a dot,
and in a later name. Each part of the expression maps states to the states that it can lead to.
"""

from __future__ import annotations

import functools
import importlib
import string
from collections.abc import Callable
from typing import Any, NamedTuple

# re's parser reads a pattern without running it; its names are the same in Python 3.11 to 3.14.
_parser: Any = importlib.import_module("re._parser")
_op: Any = importlib.import_module("re._constants")

NOT_IN_NAMES = frozenset(" \t\r\n,;'\"\\^$*+?{}[]|()")
"""Characters that no module's name has."""

_BEFORE, _FIRST, _BEHIND_DOT, _LATER = 1, 2, 4, 8

_Steps = tuple[int, int, int, int]
"""The states, as bits of one number, that each of the four states can lead to."""

_STAY: _Steps = (_BEFORE, _FIRST, _BEHIND_DOT, _LATER)
_LETTER: _Steps = (_FIRST, _FIRST, _LATER, _LATER)
_DOT: _Steps = (0, _BEHIND_DOT, 0, _BEHIND_DOT)
_NOTHING: _Steps = (0, 0, 0, 0)
_AT_START: _Steps = (_BEFORE, 0, 0, 0)

_SAMPLE = string.ascii_letters + string.digits + "_-\N{LATIN SMALL LETTER E WITH ACUTE}"
_CLASSES: dict[Any, Callable[[str], bool]] = {
    _op.CATEGORY_DIGIT: str.isdecimal,
    _op.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    _op.CATEGORY_SPACE: str.isspace,
    _op.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    _op.CATEGORY_WORD: lambda character: character.isalnum() or character == "_",
    _op.CATEGORY_NOT_WORD: lambda character: not (character.isalnum() or character == "_"),
}


class Shapes(NamedTuple):
    """The forms of paths that an expression can match.

    Attributes:
        top: names without a dot.
        nested: paths of several names.
    """

    top: bool
    nested: bool


@functools.lru_cache(maxsize=256)
def shapes(pattern: str) -> Shapes:
    r"""Return which forms of paths `re.fullmatch` can match with `pattern`.

    The judgement errs to one side: look-around, `$` and references to groups count as fitting
    anything, so a form that is called impossible is impossible.

    Raises:
        re.error: `pattern` is not a regular expression.

    Example:
        >>> shapes("q_proj|v_proj"), shapes(r".*\.q_proj")
        (Shapes(top=True, nested=False), Shapes(top=False, nested=True))
        >>> shapes(".*q_proj, .*v_proj")
        Shapes(top=False, nested=False)
    """
    try:
        ends = _sequence(_parser.parse(pattern))[0]
    except RecursionError:
        return Shapes(top=True, nested=True)
    return Shapes(top=bool(ends & _FIRST), nested=bool(ends & _LATER))


def _then(one: _Steps, other: _Steps) -> _Steps:
    return tuple(_from(states, other) for states in one)  # type: ignore[return-value]


def _from(states: int, steps: _Steps) -> int:
    found = 0
    for number, reached in enumerate(steps):
        if states & 1 << number:
            found |= reached
    return found


def _either(one: _Steps, other: _Steps) -> _Steps:
    return tuple(a | b for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


def _sequence(nodes: Any) -> _Steps:
    steps = _STAY
    for operation, argument in nodes:
        steps = _then(steps, _node(operation, argument))
    return steps


def _node(operation: Any, argument: Any) -> _Steps:
    steps_of = _OPERATIONS.get(operation)
    return _STAY if steps_of is None else steps_of(argument)


def _one_of(characters: str) -> _Steps:
    steps = _DOT if "." in characters else _NOTHING
    is_letter = any(each not in NOT_IN_NAMES and each != "." for each in characters)
    return _either(steps, _LETTER) if is_letter else steps


def _is_in(character: str, items: Any) -> bool:
    """Return whether a class of characters holds `character`, its other case aside."""
    is_negated, found = False, False
    for operation, argument in items:
        if operation is _op.NEGATE:
            is_negated = True
        elif operation is _op.LITERAL:
            found |= ord(character) == argument
        elif operation is _op.RANGE:
            found |= argument[0] <= ord(character) <= argument[1]
        elif operation is _op.CATEGORY:
            found |= bool(_CLASSES[argument](character))
    return found != is_negated


def _repeated(least: int, most: int, body: Any) -> _Steps:
    once = power = _sequence(body)
    steps, further = _STAY, _STAY
    # After as many rounds as there are states, no further state is reached.
    for _ in range(min(most - least, len(_STAY))):
        further = _either(_STAY, _then(further, once))
    while least:
        if least & 1:
            steps = _then(steps, power)
        power = _then(power, power)
        least >>= 1
    return _then(steps, further)


def _branches(branches: Any) -> _Steps:
    return functools.reduce(_either, (_sequence(branch or ()) for branch in branches))


def _position(argument: Any) -> _Steps:
    return _AT_START if argument in {_op.AT_BEGINNING, _op.AT_BEGINNING_STRING} else _STAY


def _class(items: Any) -> _Steps:
    return _one_of("".join(each for each in f"{_SAMPLE}." if _is_in(each, items)))


_ANY = _either(_LETTER, _DOT)
_OPERATIONS: dict[Any, Callable[[Any], _Steps]] = {
    _op.LITERAL: lambda code: _one_of(chr(code)),
    _op.NOT_LITERAL: lambda code: _LETTER if code == ord(".") else _ANY,
    _op.ANY: lambda _: _ANY,
    _op.IN: _class,
    _op.SUBPATTERN: lambda argument: _sequence(argument[-1]),
    _op.BRANCH: lambda argument: _branches(argument[1]),
    _op.GROUPREF_EXISTS: lambda argument: _branches(argument[1:]),
    _op.ATOMIC_GROUP: _sequence,
    _op.MAX_REPEAT: lambda argument: _repeated(*argument),
    _op.MIN_REPEAT: lambda argument: _repeated(*argument),
    _op.POSSESSIVE_REPEAT: lambda argument: _repeated(*argument),
    _op.GROUPREF: lambda _: _repeated(0, len(_STAY), ((_op.ANY, None),)),
    _op.AT: _position,
    _op.FAILURE: lambda _: _NOTHING,
}
"""The states that each operation of an expression leads to; any other one leaves them."""
