"""Judge the regular expressions of a document without matching them."""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import dataclass
from typing import Any

from adalora_core.floor.matching import OP, PARSER, is_cheap

MOST_CLASSES = 64
"""The most character classes of an expression that is compiled: each costs up to 4 ms."""
LONGEST = 4096
"""The most characters of an expression that is compiled."""
MOST_SECONDS = 1.0
"""Processor time after which no other expression of a document is judged."""
_REPEATS = (OP.MAX_REPEAT, OP.MIN_REPEAT)
_NEW_IN_3_11 = (OP.POSSESSIVE_REPEAT, OP.ATOMIC_GROUP)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The faults of a pattern.

    `error`: why Python refuses it; `too_large`: why it is not judged; `slow`: the part that may
    take exponential time; `varies`: why Python versions read it differently.
    """

    error: str | None = None
    too_large: str | None = None
    slow: str | None = None
    varies: str | None = None


class Expressions:
    """The expressions of a document that were judged so far."""

    def __init__(self) -> None:
        self._left = MOST_SECONDS
        self._judged: dict[str, Judgement] = {}

    def judge(self, pattern: str) -> Judgement:
        """Judge a regular expression, once for all rules."""
        if pattern not in self._judged:
            began = time.process_time()
            late = Judgement(too_large=f"all expressions take more than {MOST_SECONDS:g} s")
            self._judged[pattern] = judge(pattern) if self._left > 0 else late
            self._left -= time.process_time() - began
        return self._judged[pattern]

    def can_match(self, pattern: str, length: int) -> bool:
        """Return whether a pattern is valid, and takes few steps with texts of this length."""
        faults = self.judge(pattern)
        is_known = faults.error is None and faults.too_large is None
        return is_known and is_cheap(pattern, length, anywhere=False)


def judge(pattern: str) -> Judgement:
    """Judge a regular expression, if it is not too long.

    Example:
        >>> judge("(a+)+b").slow, judge("q_proj|(").error
        ('(...)+', 'missing ), unterminated subpattern at position 7')
    """
    if len(pattern) > LONGEST or pattern.count("[") > MOST_CLASSES:
        most = f"{LONGEST} characters or {MOST_CLASSES} character classes"
        return Judgement(too_large=f"more than {most}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            operations = list(_walk(PARSER.parse(pattern)))
            # The parser accepts what the compiler refuses: bad look-behind, too many repetitions.
            re.compile(pattern)
        except RecursionError:
            return Judgement(too_large="too many nested groups")
        except (OverflowError, re.error) as error:
            return Judgement(error=str(error))
    varies = None
    if caught:
        varies = str(caught[0].message)
    elif any(operation in _NEW_IN_3_11 for operation, _ in operations):
        varies = "possessive quantifiers and atomic groups are new in Python 3.11"
    return Judgement(slow=_slow_part(operations), varies=varies)


def _walk(tree: Any) -> Any:
    """Yield (operation, argument) of every node, without recursion."""
    stack = [tree]
    while stack:
        for operation, argument in stack.pop():
            yield operation, argument
            stack += _subpatterns(argument)


def _subpatterns(argument: Any) -> list[Any]:
    if isinstance(argument, PARSER.SubPattern):
        return [argument]
    if isinstance(argument, (tuple, list)):
        return [inner for part in argument for inner in _subpatterns(part)]
    return []


def _slow_part(operations: list[tuple[Any, Any]]) -> str | None:
    r"""Return a repetition whose body consists of repetitions alone: `(a+)+`, `(a*b*)*`.

    If the rest does not match, every way to divide the text between the two is tried.
    Bodies with something fixed between the repetitions, as in `(layer\.\d+\.)+`, are fine.
    """
    for operation, argument in operations:
        if operation in _REPEATS and argument[1] is OP.MAXREPEAT:
            body = list(argument[2])
            while len(body) == 1 and body[0][0] is OP.SUBPATTERN:  # a group around all of it
                body = list(body[0][1][-1])
            if any(_is_unbounded(node) for node in body) and all(
                _may_be_empty(node) or _is_unbounded(node) for node in body
            ):
                return "(...)+" if argument[0] else "(...)*"
    return None


def _is_unbounded(node: tuple[Any, Any]) -> bool:
    return node[0] in _REPEATS and node[1][1] is OP.MAXREPEAT


def _may_be_empty(node: tuple[Any, Any]) -> bool:
    return node[0] in _REPEATS and node[1][0] == 0
