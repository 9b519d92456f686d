"""Match regular expressions of foreign files where that is certainly quick; judge their cost."""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import re
import time
from typing import Any, Literal

from adalora_core.floor.errors import ExpressionError

SECONDS = 1.0
"""The longest that all slow matches of one document may take together, the last one aside."""
_MOMENT = 0.001
"""The seconds of a match that is not slow."""

Method = Literal["match", "fullmatch", "search"]
"""The functions of `re` that match."""

_MOST_SHOWN = 60


class Matcher:
    """Match expressions as `re` does, and refuse those that may take long."""

    def __init__(self) -> None:
        self._left = SECONDS

    def find(
        self, method: Method, pattern: str, text: str, field: str, group: int | str = 0
    ) -> str | None:
        r"""Return a group of what the function `method` of `re` finds in `text`, or None.

        `field` is the setting that holds the expression; `group` 0 is the whole match.

        Raises:
            re.error: `pattern` is not a regular expression.
            ExpressionError: the match may take long, or the matches so far have.

        Example:
            >>> Matcher().find("search", r"layers\.(\d+)", "model.layers.3.q", "layers_pattern", 1)
            '3'
        """
        self.refuse_slow(method, pattern, text, field)
        begin = time.perf_counter()
        match = getattr(re, method)(pattern, text)
        took = time.perf_counter() - begin
        self._left -= took if took > _MOMENT else 0
        return None if match is None else match[group]

    def matches(self, pattern: str, path: str, field: str) -> bool:
        """Return whether an expression matches a path whole, with the errors of `find`."""
        return self.find("fullmatch", pattern, path, field) is not None

    def refuse_slow(self, method: Method, pattern: str, text: str, field: str) -> None:
        """Raise the errors of `find` without matching."""
        if not is_cheap(pattern, len(text), anywhere=method == "search"):
            if len(pattern) <= LONGEST:
                re.compile(pattern)  # an error of its own
            raise _refusal(field, pattern, text, "may take long; repeat less in it")
        if self._left <= 0:
            raise _refusal(field, pattern, text, f"exceeds the {SECONDS:g} s for all expressions")


def _refusal(field: str, pattern: str, text: str, reason: str) -> ExpressionError:
    match = f"the regular expression {_shown(pattern)} is not matched against {_shown(text)}"
    return ExpressionError(field, f"{match}: it {reason}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")


# --- the steps of an expression in `re`, and what it can match -----------------------------------

LONGEST = 4096
"""The most characters of an expression that is judged; a longer one is not matched."""

MOST_CLASSES = 16
"""The most character classes of an expression that is compiled: each costs up to 16 ms."""

TOO_MANY = 200_000_000
"""The number of steps, a second, from which they are not counted any more."""

# re's parser reads a pattern without running it; its names are the same in Python 3.11 to 3.14.
PARSER: Any = importlib.import_module("re._parser")
OP: Any = importlib.import_module("re._constants")
_REPETITIONS = (OP.MAX_REPEAT, OP.MIN_REPEAT, OP.POSSESSIVE_REPEAT)
_SINGLE = (OP.LITERAL, OP.NOT_LITERAL, OP.ANY, OP.AT, OP.CATEGORY, OP.FAILURE)

_Bound = tuple[float, float]
"""Ways in which a part can match from one position, and steps that trying all of them takes."""

_NO_BOUND: _Bound = (math.inf, math.inf)


def is_cheap(pattern: str, length: int, *, anywhere: bool) -> bool:
    r"""Return whether matching a text of `length` characters takes few steps in the worst case.

    The judgement errs to one side: an expression called cheap is cheap, others need not be slow. A
    match may begin `anywhere` for `re.search`.

    Raises:
        re.error: `pattern` is not a regular expression.

    Example:
        >>> is_cheap(r".*\.(q|v)_proj", 40, anywhere=False), is_cheap("(a+)+", 40, anywhere=False)
        (True, False)
    """
    if len(pattern) > LONGEST or pattern.count("[") > MOST_CLASSES:
        return False
    # In steps, so that the cache holds few entries for one pattern.
    longest = max(64, -(-length // 16) * 16)
    starts = longest + 1 if anywhere else 1
    return starts * _most_steps(pattern, longest) < TOO_MANY


@functools.lru_cache(maxsize=1024)
def _most_steps(pattern: str, length: int) -> float:
    try:
        return _sequence(PARSER.parse(pattern), length)[1]
    except RecursionError:
        return math.inf


def _sequence(nodes: Any, length: int) -> _Bound:
    ways, steps, stars = 1.0, 1.0, 0.0
    for operation, argument in nodes:
        ways_here, steps_here = _node(operation, argument, length)
        if operation in _REPETITIONS and ways_here == length + 2:
            # Repetitions of a character share the text: n end in C(length + 1 + n, n) ways.
            stars += 1
            ways_here = (length + 1 + stars) / stars
        # Every way through the earlier parts tries this one anew.
        steps += ways * steps_here
        ways *= ways_here
        if steps > TOO_MANY or ways > TOO_MANY:
            return _NO_BOUND
    return ways, steps


def _node(operation: Any, argument: Any, length: int) -> _Bound:
    if operation in _SINGLE:
        return 1, 1
    if operation is OP.IN:
        return 1, len(argument)
    if operation is OP.GROUPREF:
        return 1, length + 1
    if operation in {OP.ASSERT, OP.ASSERT_NOT}:
        return 1, _sequence(argument[1], length)[1]
    bounds = [_sequence(each, length) for each in _parts(operation, argument)]
    if not bounds:
        return _NO_BOUND
    ways, steps = (float(sum(each)) for each in zip(*bounds, strict=True))
    if operation is OP.BRANCH:
        ways = _most_at_once(argument[1], [each for each, _ in bounds])
    if operation in _REPETITIONS:
        # Empty rounds end a repetition as soon as it has its minimum.
        rounds = min(argument[1], argument[0] + length + 1)
        if operation is not OP.POSSESSIVE_REPEAT:
            return _repeated(argument[0], rounds, ways, steps)
        steps = 1 + rounds * steps
    return (1 if operation in {OP.ATOMIC_GROUP, OP.POSSESSIVE_REPEAT} else ways), steps


def _most_at_once(alternatives: Any, ways: list[float]) -> float:
    """Return the ways of those alternatives that can match at one position.

    Of two of these, the letters with which one begins are the beginning of the other's.
    """
    begins = []
    for nodes in alternatives:
        letters = itertools.takewhile(lambda node: node[0] is OP.LITERAL, nodes)
        begins.append("".join(chr(argument) for _, argument in letters).casefold())
    return max(
        sum(
            each
            for other, each in zip(begins, ways, strict=True)
            if begin.startswith(other) or other.startswith(begin)
        )
        for begin in begins
    )


def _repeated(least: int, rounds: int, ways: float, steps: float) -> _Bound:
    if ways == 1:
        return rounds - least + 1, 1 + rounds * steps
    all_ways, all_steps, ways_so_far = 0.0, 1.0, 1.0
    for count in range(rounds + 1):
        if count >= least:
            all_ways += ways_so_far
        all_steps += ways_so_far * steps
        ways_so_far *= ways
        if all_steps > TOO_MANY:
            return _NO_BOUND
    return all_ways, all_steps


NOT_IN_NAMES = frozenset(" \t\r\n,;'\"\\^$*+?{}[]|()")
"""Characters that no module's name has."""
_OTHER_THAN_LETTERS = (OP.CATEGORY_NOT_DIGIT, OP.CATEGORY_NOT_SPACE, OP.CATEGORY_NOT_WORD)
_DOT = ord(".")


@functools.lru_cache(maxsize=256)
def form_of(pattern: str) -> Literal["nothing", "name", "path"]:
    r"""Return which paths of modules an expression may match whole: none, names alone, or any.

    The judgement errs to one side: what it excludes is impossible.

    Raises:
        re.error: `pattern` is not a regular expression.

    Example:
        >>> form_of("q_proj|v_proj"), form_of(r".*\.q_proj"), form_of(".*q_proj, .*v_proj")
        ('name', 'path', 'nothing')
    """
    try:
        nodes = PARSER.parse(pattern)
        if _needs_other_character(nodes):
            return "nothing"
        return "path" if _may_match_dot(nodes) else "name"
    except RecursionError:
        return "path"


def _parts(operation: Any, argument: Any) -> list[Any]:
    """Return the expressions inside an operation, of which a match has one."""
    if operation in {OP.BRANCH, OP.GROUPREF_EXISTS}:
        parts = argument[1] if operation is OP.BRANCH else argument[1:]
        return [part or () for part in parts]
    if operation is OP.SUBPATTERN or operation in _REPETITIONS:
        return [argument[-1]]
    return [argument] if operation is OP.ATOMIC_GROUP else []


def _needs_other_character(nodes: Any) -> bool:
    """Return whether each match has a character that no path has."""
    for operation, argument in nodes:
        if operation is OP.LITERAL and chr(argument) in NOT_IN_NAMES:
            return True
        is_optional = operation in {OP.MAX_REPEAT, OP.MIN_REPEAT} and not argument[0]
        parts = [] if is_optional else _parts(operation, argument)
        if parts and all(map(_needs_other_character, parts)):
            return True
    return False


def _may_match_dot(nodes: Any) -> bool:
    return any(
        operation is OP.ANY
        or (operation is OP.LITERAL and argument == _DOT)
        or (operation is OP.NOT_LITERAL and argument != _DOT)
        or (operation is OP.IN and _has_dot(argument))
        or any(map(_may_match_dot, _parts(operation, argument)))
        for operation, argument in nodes
    )


def _has_dot(items: Any) -> bool:
    is_listed = any(
        (kind is OP.LITERAL and each == _DOT)
        or (kind is OP.RANGE and each[0] <= _DOT <= each[1])
        or each in _OTHER_THAN_LETTERS
        for kind, each in items
    )
    return is_listed != (items[0][0] is OP.NEGATE)
