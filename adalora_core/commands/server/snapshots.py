"""Hold a document as it was when its check began: the bytes to check, and the way back.

A text document has one part. A notebook has one part for each of its cells that the client sends;
they are checked together, as the file that they would be saved in.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from adalora_core.checker.documents.document import SUFFIXES, Document, Format
from adalora_core.commands.server.text import MARK, Encoding, Position, Text, difference

if TYPE_CHECKING:
    from pathlib import Path

    from lsprotocol import types

    from adalora_core.checker.pipeline.inspection import Inspector
    from adalora_core.checker.reports import Examined
    from adalora_core.floor.places import Span


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
        from adalora_core.checker.documents.python.encodings import EncodingError, declared

        try:
            encoding = declared(raw)
        except EncodingError:
            return raw  # which the reader refuses
        if encoding != "utf-8" and not text.startswith(MARK):
            return text.encode(encoding, "replace")  # a character stays one character
    return raw
