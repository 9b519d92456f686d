"""Hold a document as it was when its check began: the bytes to check, and the way back.

A text document has one part. A notebook has one part for each of its cells that the client sends;
they are checked together, as the file that they would be saved in. A client counts the columns of a
line in units of UTF-16, UTF-8 or UTF-32, as the two agreed.
"""

from __future__ import annotations

import codecs
import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from lsprotocol.types import Location, Position, Range, TextEdit

from adalora_core.checker.documents.document import SUFFIXES, Document, Format

if TYPE_CHECKING:
    from pathlib import Path

    from adalora_core.checker.pipeline.inspection import Inspector
    from adalora_core.checker.reports import Examined
    from adalora_core.floor.places import Span

START = Position(0, 0)

# A lone CR ends a line; U+2028 does not.
_LINE_START = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")
_CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


@dataclass(frozen=True)
class Text:
    """The lines of a text of the client, or of a cell; an edit makes a new text and shares lines.

    Positions are in the units of `encoding`, and offsets in characters. `version` is the client's
    number of the state.
    """

    lines: Sequence[str]
    encoding: str
    uri: str = ""
    version: int | None = None

    @classmethod
    def of(cls, text: str, encoding: str, uri: str = "") -> Text:
        """Split a text into lines."""
        return cls(_LINE_START.split(text), encoding, uri)

    def __str__(self) -> str:
        """Return the whole text."""
        return "".join(self.lines)

    def edited(self, place: Range, new: str) -> Text:
        """Return the text with a replacement between two positions.

        A position beyond the end of its line, or of the text, is the end.
        """
        (first, start), (last, end) = sorted(map(self._place, (place.start, place.end)))
        piece = self.lines[first][:start] + new + self.lines[last][end:]
        if first and piece.startswith("\n") and self.lines[first - 1].endswith("\r"):
            first -= 1
            piece = self.lines[first] + piece
        changed = _LINE_START.split(piece)
        if last + 1 < len(self.lines):
            changed.pop()  # the line after its end is the next one
        return replace(self, lines=[*self.lines[:first], *changed, *self.lines[last + 1 :]])

    def offset(self, position: Position) -> int:
        """Return the offset of a position."""
        line, column = self._place(position)
        return self._starts[line] + column

    def position(self, offset: int) -> Position:
        """Return the position of an offset."""
        line = bisect_right(self._starts, offset) - 1
        return self.at(line, offset - self._starts[line])

    def stretch(self, start: int, end: int) -> Location:
        """Return the stretch of the text between two offsets."""
        return Location(self.uri, Range(self.position(start), self.position(end)))

    def at(self, line: int, column: int) -> Position:
        """Return the position of a character of a line."""
        return Position(line, self._units(self.lines[min(line, len(self.lines) - 1)][:column]))

    def _units(self, text: str) -> int:
        codec, width = _CODECS[self.encoding]
        return len(text.encode(codec, "surrogatepass")) // width

    def _place(self, position: Position) -> tuple[int, int]:
        """Return line and column of a position, in characters."""
        line, units = min(max(position.line, 0), len(self.lines) - 1), max(position.character, 0)
        content = self.lines[line].rstrip("\r\n")
        if position.line > line or content.isascii():
            return line, min(units, len(content)) if position.line == line else len(content)
        ends = list(accumulate(map(self._units, content[:units])))
        return line, bisect_right(ends, units)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(line) for line in self.lines[:-1])]


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


def meet(one: Location, other: Location) -> bool:
    """Return whether two stretches touch."""
    a, b = one.range, other.range
    return one.uri == other.uri and a.start <= b.end and b.start <= a.end


Changes = dict[str, list[TextEdit]]
"""The edits of texts of the client, by name."""


@dataclass(frozen=True)
class Snapshot:
    """A document of the client, which no later edit changes; `path` is None where there is no file.

    A notebook consists of its cells, unless the client opened the file as one text.
    """

    uri: str
    path: Path | None
    format: Format
    parts: tuple[Text, ...]

    @property
    def name(self) -> str:
        """The name that the settings of the project are applied to."""
        if self.path is not None:
            return str(self.path)
        return f"untitled{next(suffix for suffix, f in SUFFIXES.items() if f == self.format)}"

    @property
    def has_cells(self) -> bool:
        """Whether the parts are cells."""
        return [part.uri for part in self.parts] != [self.uri]

    @cached_property
    def raw(self) -> bytes:
        """The bytes of the file that the document would be saved in."""
        if self.has_cells:
            cells = [{"cell_type": "code", "source": str(part)} for part in self.parts]
            # Escaped, so that one cell with half of a surrogate pair does not spoil the others.
            return json.dumps({"cells": cells}).encode()
        text = str(self.parts[0])
        raw = text.encode("utf-8", "surrogatepass")  # the reader refuses half of a pair
        if self.format == "python" and not raw.isascii() and not text.startswith("\ufeff"):
            from adalora_core.checker.documents.python.lexical import EncodingError, declared

            with suppress(EncodingError):  # which the reader refuses
                if (encoding := declared(raw)) != "utf-8":
                    return text.encode(encoding, "replace")  # a character stays one character
        return raw

    def place(self, span: Span | None) -> Location:
        """Return where a span of the checked document is; nothing is found without parts."""
        part = self.parts[0]
        if span is None or (self.has_cells and span.cell is None):
            return Location(part.uri, Range(START, START))
        if not self.has_cells or (cell := span.cell) is None:
            return part.stretch(span.start + self._shift, span.end + self._shift)
        part = self.parts[cell.number - 1]
        start = part.at(cell.start_line - 1, cell.start_column - 1)
        end = part.at(cell.end_line - 1, cell.end_column - 1)
        return Location(part.uri, Range(start, end))

    def changes(self, old: Document, new: Document) -> Changes:
        """Return what turns the texts of the client into those of a fixed document."""
        texts = [(old.text, new.text, self._shift)]
        if self.has_cells:
            cells = json.loads(new.text)["cells"]
            pairs = zip(self.parts, cells, strict=True)
            texts = [(str(part), cell["source"], 0) for part, cell in pairs]
        found = {}
        for part, (before, after, shift) in zip(self.parts, texts, strict=True):
            if before != after:
                start, end, text = difference(before, after)
                place = part.stretch(start + shift, end + shift)
                found[part.uri] = [TextEdit(place.range, text)]
        return found

    def part(self, uri: str) -> Text | None:
        """Return a text by its name."""
        return next((part for part in self.parts if part.uri == uri), None)

    def with_text(self, part: Text, text: str) -> Snapshot:
        """Return the snapshot with another text in the place of one."""
        new = replace(part, lines=[text])
        return replace(self, parts=tuple(new if each is part else each for each in self.parts))

    @property
    def _shift(self) -> int:
        # The reader of bytes takes a byte order mark off.
        return self.raw.startswith(codecs.BOM_UTF8)


@dataclass(frozen=True, slots=True)
class CheckedSnapshot:
    """A checked snapshot.

    `inspector` is None where a search leaves the file out, and `found` where nothing is about
    AdaLoRA. `problem` is why the project's settings are not used, or why the text is not checked.
    """

    snapshot: Snapshot
    inspector: Inspector | None = None
    found: Examined | None = None
    problem: str | None = None
