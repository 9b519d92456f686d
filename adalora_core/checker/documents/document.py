"""Hold a decoded text: its format, its values, their positions, and the problems of the text."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from adalora_core.floor.places import AmbiguousScalar, Extent, Path, Span, content_end

if TYPE_CHECKING:
    from adalora_core.checker.documents.problems import Problem
    from adalora_core.checker.documents.python.script import Script


Format = Literal["json", "yaml", "toml", "python", "notebook"]
CODE: frozenset[Format] = frozenset({"python", "notebook"})
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".py": "python",
    ".ipynb": "notebook",
}
"""`{suffix: format}`; files with other suffixes are not searched in folders. A dialect such as JSON
with comments needs a reader too."""


def format_of(name: str | os.PathLike[str]) -> Format:
    """Return the format that a file's suffix stands for; JSON where it stands for none."""
    return SUFFIXES.get(os.path.splitext(name)[1].lower(), "json")  # noqa: PTH122 - many files


@dataclass(slots=True)
class Place:
    """The position of a value, and those of the keys and values inside it.

    Args:
        start, end: extent of the value.
        keys: extents of a mapping's keys.
        inside: places of a mapping's values by key, or of a list's by index.
    """

    start: int
    end: int
    keys: dict[object, Extent] = field(default_factory=dict)
    inside: dict[object, Place] = field(default_factory=dict)


class Locator:
    """Finds keys and values in a tree of places, which is made for the first question."""

    def __init__(self, text: str, make: Callable[[], Place]) -> None:
        self._text = text
        self._make = make

    @cached_property
    def _top(self) -> Place:
        return self._make()

    def locate(self, path: Path, at: Literal["key", "value"]) -> Extent:
        """Return the extent of the key or value, or of its nearest parent if it does not exist.

        In a script it is one of the code.
        """
        place, key = self._top, None
        for step in path:
            if step not in place.inside:
                key = None
                break
            key = place.keys.get(step)
            place = place.inside[step]
        if at == "key":
            # An absent key is marked at the first character of its nearest parent.
            return key or (place.start, min(place.start + 1, len(self._text)))
        # A YAML block ends where the next line begins; leave out the blanks before that line.
        place.end = content_end(self._text, place.start, place.end)
        return place.start, place.end


@dataclass
class Document:
    """A decoded text; the readers of text alone fill one in.

    Args:
        text: the text that offsets count in.
        value: the decoded value; meaningless if `fatal`.
        problems: the faults of the text itself.
        fatal: whether the text could not be decoded.
        locator: finds the text at a path.
        ambiguous_scalars: scalars that YAML reads unexpectedly, by their places.
        format: the format of the text.
        is_text: whether there is a text; false where the source was a mapping.
        raw: the bytes of the text, as a file holds them.
        encoding: the encoding of the file, which only Python source may choose.
        script: the code of a Python file or a notebook; None in other formats.
    """

    text: str
    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    fatal: bool = False
    locator: Locator | None = None
    ambiguous_scalars: dict[Path, AmbiguousScalar] = field(default_factory=dict)
    format: Format = "json"
    is_text: bool = True
    raw: bytes = b""
    encoding: str = "utf-8"
    script: Script | None = None

    def fail(self, *found: Problem) -> Document:
        """Return the document, which could not be decoded, with the problems that prevent it."""
        self.problems += found
        self.fatal = True
        return self

    def span_of(self, path: Path, at: Literal["key", "value"]) -> Span | None:
        """Return the span of the key or value at `path`."""
        return None if self.locator is None else self.span_in_code(*self.locator.locate(path, at))

    def span(self, start: int, end: int) -> Span:
        """Turn offsets into a span with lines and columns."""
        start_line, start_column = self._position(start)
        end_line, end_column = self._position(end)
        cell = None if self.script is None else self.script.cell_span(start, end)
        return Span(start, end, start_line, start_column, end_line, end_column, cell)

    @property
    def is_about_adalora(self) -> bool:
        """Whether the document is code about AdaLoRA, with or without a configuration."""
        return self.script is not None and self.script.is_about_adalora

    @property
    def code(self) -> str:
        """The text without what a notebook adds around its code."""
        return self.text if self.script is None else self.script.code

    def span_in_code(self, start: int, end: int) -> Span:
        """Turn offsets in the code into a span of the text."""
        extent = (start, end)
        return self.span(*(extent if self.script is None else self.script.in_text(extent)))

    def offset_of(self, line: int, column: int) -> int:
        """Turn a 1-based line and column into an offset."""
        return self._line_starts[min(line, len(self._line_starts)) - 1] + column - 1

    def _position(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    @cached_property
    def _line_starts(self) -> list[int]:
        starts, at = [0], 0
        # A lone CR ends a line too; U+2028 does not, as in every editor's status line.
        for line in self.text.replace("\r\n", " \n").replace("\r", "\n").split("\n")[:-1]:
            at += len(line) + 1
            starts.append(at)
        return starts
