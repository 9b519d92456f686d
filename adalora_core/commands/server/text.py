"""Hold the text of a document in lines, and turn the positions of a client into offsets.

A client counts the columns of a line in units of UTF-16, UTF-8 or UTF-32, as the two agreed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Literal

Encoding = Literal["utf-8", "utf-16", "utf-32"]
Position = tuple[int, int]
"""A line, and a column in the units of the client, both from 0."""

MARK = "\ufeff"
"""A byte order mark, which some clients leave in the text."""

# A lone CR ends a line; U+2028 does not.
_LINE_START = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")
_CONTINUATION = bytes(range(0x80, 0xC0))


class Text:
    """The lines of a text, each with its end; an edit makes a new text and shares the others."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    @classmethod
    def of(cls, text: str) -> Text:
        """Split a text into lines."""
        return cls(_LINE_START.split(text))

    def __str__(self) -> str:
        """Return the whole text."""
        return "".join(self._lines)

    def edited(self, one: Position, other: Position, new: str, encoding: Encoding) -> Text:
        """Return the text with a replacement between two positions.

        A position beyond the end of its line, or of the text, is the end.
        """
        (first, start), (last, end) = sorted(
            (self._place(one, encoding), self._place(other, encoding))
        )
        piece = self._lines[first][:start] + new + self._lines[last][end:]
        if first and piece.startswith("\n") and self._lines[first - 1].endswith("\r"):
            first -= 1
            piece = self._lines[first] + piece
        changed = _LINE_START.split(piece)
        if last + 1 < len(self._lines):
            changed.pop()  # the line after its end is the next one
        return Text([*self._lines[:first], *changed, *self._lines[last + 1 :]])

    def offset(self, position: Position, encoding: Encoding) -> int:
        """Return the offset of a position."""
        line, column = self._place(position, encoding)
        return self._starts[line] + column

    def position(self, offset: int, encoding: Encoding) -> Position:
        """Return the position of an offset."""
        line = bisect_right(self._starts, offset) - 1
        return line, self.units(line, offset - self._starts[line], encoding)

    def units(self, line: int, column: int, encoding: Encoding) -> int:
        """Return how many units of the client the first characters of a line have."""
        before = self._lines[min(line, len(self._lines) - 1)][:column]
        if encoding == "utf-32" or before.isascii():
            return len(before)
        if encoding == "utf-16":
            return len(before.encode("utf-16-le", "surrogatepass")) // 2
        return len(before.encode("utf-8", "surrogatepass"))

    def _place(self, position: Position, encoding: Encoding) -> tuple[int, int]:
        """Return line and column of a position, in characters."""
        line, units = position
        if line >= len(self._lines):
            line, units = len(self._lines) - 1, len(self._lines[-1]) * 4
        content = self._lines[line].rstrip("\r\n")
        return max(line, 0), _characters(content, max(units, 0), encoding)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(line) for line in self._lines[:-1])]


def _characters(line: str, units: int, encoding: Encoding) -> int:
    """Return how many characters of a line end within its first units."""
    if encoding == "utf-32" or line.isascii():
        return min(units, len(line))
    if encoding == "utf-16":
        found = line.encode("utf-16-le", "surrogatepass")[: 2 * units]
        shown = found.decode("utf-16-le", "surrogatepass")
        is_half = bool(shown) and shown[-1] != line[len(shown) - 1]
        return len(shown) - is_half
    encoded = line.encode("utf-8", "surrogatepass")
    count = len(encoded[:units].translate(None, _CONTINUATION))
    is_part = units < len(encoded) and encoded[units] in _CONTINUATION
    return count - is_part


def difference(old: str, new: str) -> tuple[int, int, str]:
    """Return the one stretch of a text that a change replaces, and the text in its place."""
    start = _common(old, new)
    rest = min(len(old), len(new)) - start
    behind = min(_common(old[::-1], new[::-1]), rest)
    # A client has no position inside of a line end.
    if old[start - 1 : start + 1] == "\r\n" or new[start - 1 : start + 1] == "\r\n":
        start -= 1
    end = len(old) - behind
    if old[end - 1 : end + 1] == "\r\n" or new[len(new) - behind - 1 :][:2] == "\r\n":
        behind -= 1
    return start, len(old) - behind, new[start : len(new) - behind]


def _common(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
