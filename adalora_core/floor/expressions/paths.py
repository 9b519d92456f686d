r"""Judge which module paths a regular expression can match whole, without matching it.

The expression is followed over four states of a path: before it, in its first name, behind a dot,
and in a later name. Each part of the expression maps states to the states that it can lead to.
"""

from __future__ import annotations

import functools
import operator
import string
from collections.abc import Callable
from typing import Any, NamedTuple

from adalora_core.floor.expressions.cost import OP, PARSER

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
    OP.CATEGORY_DIGIT: str.isdecimal,
    OP.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    OP.CATEGORY_SPACE: str.isspace,
    OP.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    OP.CATEGORY_WORD: lambda character: character.isalnum() or character == "_",
    OP.CATEGORY_NOT_WORD: lambda character: not (character.isalnum() or character == "_"),
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
        ends = _sequence(PARSER.parse(pattern))[0]
    except RecursionError:
        return Shapes(top=True, nested=True)
    return Shapes(top=bool(ends & _FIRST), nested=bool(ends & _LATER))


def _then(one: _Steps, other: _Steps) -> _Steps:
    bits = [(1 << number, reached) for number, reached in enumerate(other)]
    return tuple(  # type: ignore[return-value]
        functools.reduce(operator.or_, (reached for bit, reached in bits if states & bit), 0)
        for states in one
    )


def _either(one: _Steps, other: _Steps) -> _Steps:
    return tuple(a | b for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


def _sequence(nodes: Any) -> _Steps:
    steps = _STAY
    for operation, argument in nodes:
        if (steps_of := _OPERATIONS.get(operation)) is not None:
            steps = _then(steps, steps_of(argument))
    return steps


def _one_of(characters: str) -> _Steps:
    steps = _DOT if "." in characters else _NOTHING
    is_letter = any(each not in NOT_IN_NAMES and each != "." for each in characters)
    return _either(steps, _LETTER) if is_letter else steps


def _is_in(character: str, items: Any) -> bool:
    """Return whether a class of characters holds `character`, its other case aside."""
    is_negated, found = False, False
    for operation, argument in items:
        if operation is OP.NEGATE:
            is_negated = True
        elif operation is OP.LITERAL:
            found |= ord(character) == argument
        elif operation is OP.RANGE:
            found |= argument[0] <= ord(character) <= argument[1]
        elif operation is OP.CATEGORY:
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
    return _AT_START if argument in {OP.AT_BEGINNING, OP.AT_BEGINNING_STRING} else _STAY


_ANY = _either(_LETTER, _DOT)
_OPERATIONS: dict[Any, Callable[[Any], _Steps]] = {
    OP.LITERAL: lambda code: _one_of(chr(code)),
    OP.NOT_LITERAL: lambda code: _LETTER if code == ord(".") else _ANY,
    OP.ANY: lambda _: _ANY,
    OP.IN: lambda items: _one_of("".join(c for c in f"{_SAMPLE}." if _is_in(c, items))),
    OP.SUBPATTERN: lambda argument: _sequence(argument[-1]),
    OP.BRANCH: lambda argument: _branches(argument[1]),
    OP.GROUPREF_EXISTS: lambda argument: _branches(argument[1:]),
    OP.ATOMIC_GROUP: _sequence,
    OP.MAX_REPEAT: lambda argument: _repeated(*argument),
    OP.MIN_REPEAT: lambda argument: _repeated(*argument),
    OP.POSSESSIVE_REPEAT: lambda argument: _repeated(*argument),
    OP.GROUPREF: lambda _: _repeated(0, len(_STAY), ((OP.ANY, None),)),
    OP.AT: _position,
    OP.FAILURE: lambda _: _NOTHING,
}
"""The states that each operation of an expression leads to; any other one leaves them."""
