"""Find the cells of a notebook in its text: the places of their code, and their outputs."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adalora_core.floor.places import Extent

_CHARACTER = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]",
    re.DOTALL,
)
"""One character of a JSON string, as it is written."""

_MOST_TOKENS = 1_000_000
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_LIST = re.compile(r"[ \t\n\r]*:[ \t\n\r]*\[")
_DEPTH_OF_A_CELL = 3


@dataclass(slots=True)
class Piece:
    """A JSON string with a part of the code.

    Args:
        start: where the part starts in the code.
        length: the characters of the part.
        extent: what is between the quotes, in the text of the file.
    """

    start: int
    length: int
    extent: Extent


class Places:
    """The JSON strings that hold the code of a notebook, in the order of the file.

    Args:
        text: the text of the file.
        pieces: the strings.
    """

    def __init__(self, text: str, pieces: list[Piece]) -> None:
        self._text = text
        self._pieces = pieces
        self._in_code = [piece.start for piece in pieces]
        self._in_text = [piece.extent[0] for piece in pieces]
        self._offsets: dict[int, list[int]] = {}

    def in_text(self, extent: Extent) -> Extent:
        """Turn an extent of the code into one of the text."""
        start, end = extent
        begin = self._to_text(start)
        return begin, self._to_text(end - 1, is_end=True) if end > start else begin

    def in_code(self, offset: int) -> int:
        """Turn an offset of the text into one of the code; outside of code, into the one before."""
        index = bisect_right(self._in_text, offset) - 1
        if index < 0:
            return 0
        piece = self._pieces[index]
        return piece.start + bisect_right(self._characters(index), offset) - 1

    def _to_text(self, offset: int, *, is_end: bool = False) -> int:
        index = max(0, bisect_right(self._in_code, offset) - 1)
        piece = self._pieces[index]
        return self._characters(index)[min(offset - piece.start + is_end, piece.length)]

    def _characters(self, index: int) -> list[int]:
        """Return where each character of a piece is in the text, and where the piece ends."""
        if index not in self._offsets:
            found = _CHARACTER.finditer(self._text, *self._pieces[index].extent)
            self._offsets[index] = [match.start() for match in found]
            self._offsets[index].append(self._pieces[index].extent[1])
        return self._offsets[index]


def outputs_in(text: str) -> list[Extent]:
    """Return where the contents of the lists `outputs` are in all cells of a notebook.

    The text need not be JSON. Of one with too many strings and brackets the first ones are found.
    """
    found: list[Extent] = []
    depth, start = 0, None
    for number, token in enumerate(_TOKEN.finditer(text)):
        if number > _MOST_TOKENS:
            break
        first = text[token.start()]
        if first in "[{":
            depth += 1
        elif first != '"':
            depth -= 1
            if start is not None and depth == _DEPTH_OF_A_CELL:
                found.append((start, token.start()))
                start = None
        elif depth == _DEPTH_OF_A_CELL and token.group() == '"outputs"':
            begin = _LIST.match(text, token.end())
            start = begin and begin.end()
    return found


def without_outputs(text: str) -> str:
    """Return a text of the same length with blanks in the place of the outputs."""
    parts, at = [], 0
    for start, end in outputs_in(text):
        parts += [text[at:start], " " * (end - start)]
        at = end
    return "".join([*parts, text[at:]])
