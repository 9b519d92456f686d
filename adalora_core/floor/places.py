"""Places in a document: paths, JSON pointers, extents and spans of text, and edits of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Steps from one place of a decoded document to another; `()` is the place itself."""

Extent = tuple[int, int]
"""Start and exclusive end of a stretch of text, as offsets in code points."""

_CHUNK = 4096
_LINE_END = re.compile(r"\r\n|\n|\r")


def line_start(text: str, offset: int) -> int:
    """Return where the line of an offset starts."""
    return max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1


def line_end(text: str, at: int = 0) -> str:
    """Return the characters that end the line at an offset, or a line feed if it is the last."""
    found = _LINE_END.search(text, at)
    return found[0] if found else "\n"


def content_end(text: str, start: int, end: int, blanks: str | None = None) -> int:
    """Return where the content of a stretch of text ends, without the `blanks` behind it.

    These are the characters that are no content; None: all white space.

    Example:
        >>> content_end("key: 1  # text", 0, 8)
        6
    """
    while start < end:
        begin = max(start, end - _CHUNK)
        if kept := text[begin:end].rstrip(blanks):
            return begin + len(kept)
        end = begin
    return start


def to_pointer(path: Path) -> str:
    """Write a path as a JSON pointer (RFC 6901); the whole document is the empty string.

    Example:
        >>> to_pointer(("peft", "a/b", 0))
        '/peft/a~1b/0'
    """
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def from_pointer(pointer: str) -> tuple[str, ...]:
    """Split a JSON pointer into its steps, all of them strings.

    Raises:
        ValueError: the pointer is not empty and does not start with a slash.
    """
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise ValueError(
            f"a JSON pointer should start with '/', got {pointer!r}; write for example /model/peft"
        )
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/"))


@dataclass(frozen=True, slots=True)
class CellSpan:
    """A stretch of the cell `number` of a notebook, as in `Span`; `source` is its first line."""

    number: int
    start_line: int
    start_column: int
    end_line: int
    end_column: int
    source: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the source: 0-based offsets, 1-based lines and columns, in code points.

    The end is exclusive: `end_column` is the column after the last character. In a notebook the
    place in the cell is known too.
    """

    start: int
    end: int
    start_line: int
    start_column: int
    end_line: int
    end_column: int
    cell: CellSpan | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """A replacement for a stretch of the source."""

    span: Span
    replacement: str


@dataclass(frozen=True, slots=True)
class AmbiguousScalar:
    """A plain YAML scalar whose meaning differs from its look, or from reader to reader.

    `kind` is the ambiguity, as `yaml_source.ambiguity` names it, or `tag`.
    """

    kind: str
    path: Path
    text: str
