"""Decode TOML with the standard parser; scan the text when a position is asked for."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document, Locator, Place
from adalora_core.checker.documents.problems import Problem, values_of
from adalora_core.floor.limits import DEFAULT_LIMITS, Limits, has_too_many_digits

_BLANK = re.compile(r"[ \t]*")
# Possessive: of a group that could give repetitions back, each one would take memory.
_SPACE = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# A string without an end extends to the end of the text, so that a search reads a text once.
LONG_STRING = r"""(?s:
    \"{3}(?:[^"\\]++|\\.|"{1,2}(?!"))*+(?:"{3,5}|\\?\Z)
    |'{3}(?:[^']++|'{1,2}(?!'))*+(?:'{3,5}|\Z)
)"""
SHORT_STRING = r"""(?s:"(?:[^"\\\n]++|\\.)*+"?|'[^'\n]*+'?)"""
STRING = re.compile(rf"{LONG_STRING}|{SHORT_STRING}", re.VERBOSE)
_SCALAR = re.compile(r"[^,\]}#\r\n]*")

_KEY = re.compile(rf"{SHORT_STRING}|[A-Za-z0-9_-]++", re.VERBOSE)
_KEYS = re.compile(
    rf"{LONG_STRING}|\#[^\n]*+|(?P<dotted>(?:{_KEY.pattern})"
    rf"(?:[ \t]*+\.[ \t]*+(?:{_KEY.pattern}))*+)",
    re.VERBOSE,
)
"""Finds the keys of a text, and its other words."""

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_REPEATED = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate inline table key")


def decode(text: str, limits: Limits = DEFAULT_LIMITS) -> Document:
    """Decode TOML text; each fault of the text becomes a problem of the document."""
    document = Document(text)
    if not text.strip():
        return document.fail(problems.EMPTY)
    excess = _excess_of_text(text, limits)
    if excess is not None:
        return document.fail(excess)
    try:
        document.value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return document.fail(_explained(document, str(error)))
    except RecursionError:
        return document.fail(problems.too_deep(limits))
    except ValueError:
        is_long = re.search(r"\d{4300,}", text.replace("_", "")) is not None
        other = problems.beyond("a value is out of Python's range")
        return document.fail(problems.long_integer() if is_long else other)
    excess = _excess_of_values(document.value, limits)
    if excess is not None:
        return document.fail(excess)
    document.locator = Locator(text, _Scanner(text).document)
    return document


def _explained(document: Document, problem: str) -> Problem:
    match = _PLACE.search(problem)
    offset = len(document.text)
    if match is not None:
        problem = problem[: match.start()]
        if match[1] is not None:
            offset = document.offset_of(int(match[1]), int(match[2]))
    is_repeated = problem.startswith(_REPEATED)
    code = problems.DUPLICATE_KEY if is_repeated else problems.SYNTAX_ERROR
    message = f"not valid TOML: {problem[:1].lower()}{problem[1:]}"
    return Problem(code, message, offset=min(offset, len(document.text)))


def _excess_of_text(text: str, limits: Limits) -> Problem | None:
    """Return how the text exceeds a limit, or None; the standard parser has no limits.

    The first counts are upper bounds that are cheap to get; most documents need no closer look.
    Each dot of a key makes a table, and the parser's time grows with the square of a key's dots.
    """
    values, dots = sum(map(text.count, "=,[{")), text.count(".")
    longest = max(line.count(".") for line in text.split("\n")) if dots else 0
    if longest > limits.depth or values + dots >= limits.nodes:
        for match in _KEYS.finditer(text):
            parts = sum(1 for _ in _KEY.finditer(match["dotted"] or ""))
            if parts > limits.depth:
                return problems.too_deep(limits)
            values += max(0, parts - 2)  # one dot may be that of a number
    return problems.too_many_values(limits) if values >= limits.nodes else None


def _excess_of_values(value: Any, limits: Limits) -> Problem | None:
    """Return how the values exceed a limit, or None."""
    for path, node in values_of(value):
        if len(path) > limits.depth and isinstance(node, (dict, list)):
            return problems.too_deep(limits)
        # Python limits the digits of decimal integers only.
        if type(node) is int and has_too_many_digits(node):
            return problems.long_integer()
    return None


Key = tuple[str, tuple[int, int]]
"""A key and its extent."""


class _Scanner:
    """Finds the position of every key and value in a text, which must be valid TOML."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> Place:
        top = table = Place(0, len(self._text))
        while self._skip(_SPACE) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header(top)
            else:
                self._pair(table)
        return top

    def _header(self, top: Place) -> Place:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 1 + is_array
        *parents, last = self._dotted()
        self._at += 1 + is_array
        table = self._descend(top, parents)
        if not is_array:
            return self._descend(table, [last])
        array = table.inside.get(last[0]) or self._put(table, last, Place(start, self._at))
        array.keys[len(array.inside)] = last[1]
        array.inside[len(array.inside)] = element = Place(start, self._at)
        return element

    def _pair(self, table: Place) -> None:
        *parents, last = self._dotted()
        self._at += 1  # the equals sign
        target = self._descend(table, parents)
        self._put(target, last, self._value())

    def _descend(self, table: Place, keys: list[Key]) -> Place:
        """Return the table at `keys`, made if it is new; in an array of tables, the last one."""
        for key in keys:
            known = table.inside.get(key[0])
            if known is None:
                known = self._put(table, key, Place(*key[1]))
            elif isinstance(next(iter(known.inside), None), int):
                known = known.inside[len(known.inside) - 1]
            table = known
        return table

    def _put(self, table: Place, key: Key, place: Place) -> Place:
        name, extent = key
        table.keys[name] = extent
        table.inside[name] = place
        return place

    def _dotted(self) -> list[Key]:
        keys = []
        while True:
            start = self._skip(_BLANK)
            if self._text[start] in "\"'":
                written = self._text[start : self._skip(STRING)]
                name = next(iter(tomllib.loads(f"{written} = 0")))
            else:
                name = self._text[start : self._skip(_BARE)]
            keys.append((name, (start, self._at)))
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _value(self) -> Place:
        start = self._skip(_BLANK)
        first = self._text[start]
        place = Place(start, start)
        if first in "[{":
            self._entries(place, "]" if first == "[" else "}")
        elif first in "\"'":
            self._skip(STRING)
        else:
            self._skip(_SCALAR)  # blanks behind it included
        place.end = self._at
        return place

    def _entries(self, place: Place, closing: str) -> None:
        """Read what is between the brackets of an array or an inline table."""
        self._at += 1
        while self._text[self._skip(_SPACE)] != closing:
            if closing == "]":
                place.inside[len(place.inside)] = self._value()
            else:
                self._pair(place)
            if self._text[self._skip(_SPACE)] == ",":
                self._at += 1
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at
