"""Describe the problems of a text: a code, a message and a place for each.

Readers of text do not know the rules; the rule that explains a code takes the code from here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from adalora_core.config.findings import Remedy
from adalora_core.floor.limits import Limits
from adalora_core.floor.places import Extent, Path

SYNTAX_ERROR = "ADA001"
DUPLICATE_KEY = "ADA002"
BAD_ENCODING = "ADA004"
LIMIT_EXCEEDED = "ADA005"
NO_BLOCK = "ADA006"
NOT_A_MAPPING = "ADA007"
MANY_DOCUMENTS = "ADA008"
EMPTY_INPUT = "ADA009"
BOUND_EXCEEDED = "ADA013"
NON_STRING_KEY = "ADA607"
UNKNOWN_TAG = "ADA608"

_MAY_BE_OPEN = re.compile(r"',' (?:or|delimiter)|nclosed|nvalid value|does not match opening")
_BRACKET = re.compile(
    r"""[(\[{\])}]|\#[^\n]*+|(?P<long>"{3}|'{3})(?:(?!(?P=long)).)*+(?P=long)"""
    r"""|"(?:[^"\\\n]++|\\.)*+"?|(?<![a-z]{2})'(?:[^'\\\n]++|\\.)*+'""",
    re.IGNORECASE | re.DOTALL,
)
_ENDS = {"(": ")", "[": "]", "{": "}"}
_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")

CUT_OFF = "check whether the file is cut off"
MOST_RELATED = 8
"""The most places of a repeated key that a problem names besides the last."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of the text.

    Args:
        code: the code of the rule that explains it.
        message: the subject, the problem and the values.
        path: the path of the problem, from the document's top.
        at: whether the key or the value is marked.
        hint: the hint, where it differs from the rule's.
        offset: the position in the text, where a path cannot name it.
        related: other extents of the text, each with a note.
        remedy: the change of the text that corrects it.
    """

    code: str
    message: str
    path: Path = ()
    at: Literal["key", "value"] = "value"
    hint: str | None = None
    offset: int | None = None
    related: tuple[tuple[Extent, str], ...] = ()
    remedy: Remedy | None = None


EMPTY = Problem(EMPTY_INPUT, "the document is empty", offset=0)


def beyond(message: str, offset: int = 0) -> Problem:
    """Return the problem of a text that exceeds a limit."""
    return Problem(LIMIT_EXCEEDED, message, offset=offset)


def too_deep(limits: Limits, offset: int = 0) -> Problem:
    """Return the problem of a text whose values are nested too deep."""
    return beyond(f"the document is nested deeper than {limits.depth} levels", offset)


def too_many_values(limits: Limits, counted: str = "", offset: int = 0) -> Problem:
    """Return the problem of a text with too many values, and what was counted too."""
    return beyond(f"the document has more than {limits.nodes} values{counted}", offset)


def long_integer(text: str = "") -> Problem:
    """Return the problem of an integer with too many digits, at its place if the text is given."""
    number = re.search(r"(?<!\d)\d{4300,}", text)
    return beyond("an integer has too many digits", number.start() if number else 0)


def at_open_bracket(problem: Problem, text: str) -> Problem:
    """Return a problem that a bracket without an end explains at that bracket."""
    offset = problem.offset
    if offset is None or not _MAY_BE_OPEN.search(problem.message):
        return problem
    left: list[int] = []
    stack: list[int] = []
    waiting: Counter[str] = Counter()
    for match in _BRACKET.finditer(text):
        if end := _ENDS.get(match[0]):
            stack.append(match.start())
            waiting[end] += 1
        elif waiting[match[0]]:
            while (end := _ENDS[text[stack[-1]]]) != match[0]:
                left.append(stack.pop())
                waiting[end] -= 1
            stack.pop()
            waiting[match[0]] -= 1
    at = max((each for each in (*left, *stack) if each < offset), default=None)
    if at is None:
        return problem
    message = f"{problem.message.partition(':')[0]}: `{text[at]}` is never closed"
    related = (((offset, min(offset + 1, len(text))), "noticed here"),)
    hint = f"close it with {_ENDS[text[at]]}"
    return replace(problem, message=message, offset=at, hint=hint, related=related)


def duplicate_key(path: Path, key: str, extents: list[Extent]) -> Problem:
    """Return the problem of a key that appears at all of `extents`."""
    return Problem(
        DUPLICATE_KEY,
        f"the key {key!r} appears {len(extents)} times in one object; the last one wins",
        (*path, key),
        "key",
        related=tuple((extent, "also here") for extent in extents[:-1][:MOST_RELATED]),
    )


def values_of(top: Any) -> Iterator[tuple[Path, Any]]:
    """Yield every value of a document, containers before what they hold, without recursion."""
    stack: list[tuple[Path, Any]] = [((), top)]
    while stack:
        path, node = stack.pop()
        yield path, node
        if isinstance(node, dict):
            stack += [((*path, key), entry) for key, entry in node.items()]
        elif isinstance(node, list):
            stack += [((*path, index), entry) for index, entry in enumerate(node)]


def impossible_characters(top: Any) -> Iterator[Problem]:
    """Yield a problem for each string, key or value, that no UTF-8 file could hold."""
    for path, value in values_of(top):
        at: Literal["key", "value"] = "key" if isinstance(value, dict) else "value"
        for text in value if isinstance(value, dict) else [value]:
            if isinstance(text, str) and _IMPOSSIBLE.search(text):
                message = f"a string holds NUL or half of a surrogate pair: {text!r}"
                place = (*path, text) if at == "key" else path
                yield Problem(BAD_ENCODING, message, place, at)
