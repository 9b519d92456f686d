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
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from adalora_core.checker.documents.document import SUFFIXES, Document, Format

if TYPE_CHECKING:
    from pathlib import Path

    from lsprotocol import types

    from adalora_core.checker.pipeline.inspection import Inspector
    from adalora_core.checker.reports import Examined
    from adalora_core.floor.places import Span

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


@dataclass(frozen=True)
class Part:
    """A text of the client, with the client's number of its state; a code cell, if it is a cell."""

    uri: str
    version: int | None
    text: Text
    is_code: bool = True


class ClientRange(NamedTuple):
    """A stretch of a text of the client."""

    uri: str
    start: Position
    end: Position

    def holds(self, uri: str, position: Position) -> bool:
        """Return whether a position is in the stretch; also if it is right behind it."""
        return self.meets(ClientRange(uri, position, position))

    def meets(self, other: ClientRange) -> bool:
        """Return whether two stretches touch."""
        return self.uri == other.uri and self.start <= other.end and other.start <= self.end

    def shares_line(self, other: ClientRange) -> bool:
        """Return whether two stretches have a line in common."""
        lines = self.start[0] <= other.end[0] and other.start[0] <= self.end[0]
        return self.uri == other.uri and lines


class Replacement(NamedTuple):
    """A new text for a stretch."""

    place: ClientRange
    text: str


@dataclass(frozen=True)
class Snapshot:
    """A document of the client, which no later edit changes.

    `path` is None where there is no file yet, and `metadata` where this is not a notebook.
    """

    uri: str
    path: Path | None
    format: Format
    parts: tuple[Part, ...]
    encoding: Encoding
    metadata: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name that the settings of the project are applied to."""
        if self.path is not None:
            return str(self.path)
        return f"untitled{next(suffix for suffix, f in SUFFIXES.items() if f == self.format)}"

    @cached_property
    def raw(self) -> bytes:
        """The bytes of the file that the document would be saved in."""
        if self.metadata is None:
            return _encoded(str(self.parts[0].text), self.format)
        cells = [
            {"cell_type": "code" if part.is_code else "markdown", "source": str(part.text)}
            for part in self.parts
        ]
        # Escaped, so that one cell with half of a surrogate pair does not spoil the others.
        return json.dumps({"cells": cells, "metadata": self.metadata}).encode()

    def place(self, span: Span | None) -> ClientRange | None:
        """Return where a span of the checked document is; None: nowhere."""
        if not self.parts:
            return None
        if self.metadata is None:
            part = self.parts[0]
            shift = self._shift
            start, end = (0, 0) if span is None else (span.start + shift, span.end + shift)
            return self.stretch(part, start, end)
        if span is None or span.cell is None:
            return ClientRange(self.parts[0].uri, (0, 0), (0, 0))
        cell = span.cell
        part = self.parts[cell.number - 1]
        first, last = cell.start_line - 1, cell.end_line - 1
        return ClientRange(
            part.uri,
            (first, part.text.units(first, cell.start_column - 1, self.encoding)),
            (last, part.text.units(last, cell.end_column - 1, self.encoding)),
        )

    def stretch(self, part: Part, start: int, end: int) -> ClientRange:
        """Return the stretch of a text between two offsets."""
        first, last = (part.text.position(each, self.encoding) for each in (start, end))
        return ClientRange(part.uri, first, last)

    def replacements(self, old: Document, new: Document) -> list[Replacement]:
        """Return what turns the texts of the client into those of a fixed document."""
        if self.metadata is None:
            texts = [(self.parts[0], old.text, new.text, self._shift)]
        else:
            cells = json.loads(new.text)["cells"]
            pairs = zip(self.parts, cells, strict=True)
            texts = [(part, str(part.text), cell["source"], 0) for part, cell in pairs]
        found = []
        for part, before, after, shift in texts:
            if before != after:
                start, end, text = difference(before, after)
                found.append(Replacement(self.stretch(part, start + shift, end + shift), text))
        return found

    def part(self, uri: str) -> Part | None:
        """Return a text by its name."""
        return next((part for part in self.parts if part.uri == uri), None)

    def with_text(self, uri: str, text: str) -> Snapshot:
        """Return the snapshot with another text in the place of one."""
        parts = [replace(p, text=Text.of(text)) if p.uri == uri else p for p in self.parts]
        return replace(self, parts=tuple(parts))

    @property
    def _shift(self) -> int:
        # The reader of bytes takes a byte order mark off.
        return self.raw.startswith(codecs.BOM_UTF8)


@dataclass(frozen=True, slots=True)
class CheckedSnapshot:
    """A checked snapshot, with its findings for the client on each text.

    `inspector` is None where a search leaves the file out, and `found` where nothing is about
    AdaLoRA. `problem` is why the project's settings are not used, or why the text is not checked.
    """

    snapshot: Snapshot
    inspector: Inspector | None = None
    found: Examined | None = None
    problem: str | None = None
    diagnostics: dict[str, list[types.Diagnostic]] = field(default_factory=dict)


def _encoded(text: str, format: Format) -> bytes:  # noqa: A002 - as in the contract
    """Return the bytes of a text, in the encoding that its reader expects.

    Half of a surrogate pair is passed on to the reader, who refuses it.
    """
    raw = text.encode("utf-8", "surrogatepass")
    if format == "python" and not raw.isascii():
        from adalora_core.checker.documents.python.lexical import EncodingError, declared

        try:
            encoding = declared(raw)
        except EncodingError:
            return raw  # which the reader refuses
        if encoding != "utf-8" and not text.startswith(MARK):
            return text.encode(encoding, "replace")  # a character stays one character
    return raw
