"""Decode Python source into a document, and hold its syntax tree with the places of its nodes."""

from __future__ import annotations

import ast
import json
import re
import sys
import warnings
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from unicodedata import combining, normalize

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.documents.python.calls import Call, document_of, find_calls
from adalora_core.checker.documents.python.encodings import with_plain_letters
from adalora_core.checker.documents.python.scopes import Scopes
from adalora_core.checker.documents.python.values import Values
from adalora_core.floor.limits import DEFAULT_LIMITS, Limits
from adalora_core.floor.places import CellSpan

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.notebook import Places
    from adalora_core.floor.places import Extent

MOST_STEPS = 800_000
"""Bound on the steps of following the names of one script, each of less than a microsecond."""
_ABOUT = re.compile("adalora|^update_and_allocate$", re.IGNORECASE)
_TOKEN = re.compile(r"\w+|[^\w\s]")
_TOKENS_OF_A_CELL = 4
"""A cell takes as long as so many words: cells are parsed one by one if one of them is damaged."""
_MOST_MARKS = 100
_LINE_END = re.compile(r"\r\n|\r|\n")
_VERSION = f"Python {sys.version_info.major}.{sys.version_info.minor}"


def decode(text: str, limits: Limits) -> Document:
    """Parse a script; each fault of the text becomes a problem of the document."""
    tree = too_long(text, limits) or parse(text)
    if isinstance(tree, Problem):
        return Document(text, problems=[tree], fatal=True)
    return document_of(text, Script(text, tree, limits=limits), [])


def is_about(code: str) -> bool:
    """Return whether code mentions AdaLoRA or its allocation."""
    code = with_plain_letters(code)
    return "adalora" in code.lower() or "update_and_allocate" in code


def too_long(code: str, limits: Limits, cells: int = 0) -> Problem | None:
    """Return the problem of code, in a number of cells, whose parsing would take too long."""
    most = limits.tokens - _TOKENS_OF_A_CELL * cells
    # Each token has at least one character.
    if len(code) > most and sum(1 for _ in _TOKEN.finditer(code)) > most:
        message = f"the code has more than {limits.tokens} words and signs"
        return Problem(problems.LIMIT_EXCEEDED, message, offset=0)
    # Python brings the marks of a name into an order, which takes quadratic time.
    marks = "".join(each for each in {*code} if combining(normalize("NFKD", each)[0]))
    if marks and (found := re.search(f"[{re.escape(marks)}]{{{_MOST_MARKS},}}", code)):
        message = f"{_MOST_MARKS} combining marks follow each other"
        return Problem(problems.LIMIT_EXCEEDED, message, offset=found.start())
    return None


def parse(code: str) -> ast.Module | Problem:
    """Return the syntax tree of code, or the reason why there is none."""
    if "\0" in code:  # only a notebook's strings can hold it; Python's errors for it differ
        message = "the code holds a NUL character: it is not text"
        return Problem(problems.BAD_ENCODING, message, offset=code.index("\0"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code itself, such as "\d" in a string
            return ast.parse(code)
    except SyntaxError as error:
        message = f"not valid {_VERSION}: {error.msg}"
        starts = _line_starts(code)
        start = starts[min((error.lineno or 1) - 1, len(starts) - 1)]
        offset = min(start + (error.offset or 1) - 1, len(code))
        hint = None
        if not code[offset:].strip():
            hint = "check whether the file is cut off"
        return Problem(problems.SYNTAX_ERROR, message, offset=offset, hint=hint)
    except ValueError as error:  # half of a surrogate pair, in a notebook
        return Problem(problems.BAD_ENCODING, f"the code is not text: {error}", offset=0)
    except (RecursionError, MemoryError):
        message = "the code is nested too deeply for this interpreter"
        return Problem(problems.LIMIT_EXCEEDED, message, offset=0)


def _line_starts(code: str) -> list[int]:
    return [0, *(match.end() for match in _LINE_END.finditer(code))]


@dataclass(eq=False)
class Script:
    """The code of a document.

    Args:
        code: the code; in a notebook, that of all code cells, without magics.
        tree: its syntax tree.
        places: turns places of the code into places of the text; None: code and text are the same.
        cell_starts: the line of the code on which each code cell starts; empty: not a notebook.
        cell_numbers: the number of each of these cells among all cells, from 1.
        limits: the limits of values.
    """

    code: str
    tree: ast.Module
    places: Places | None = None
    cell_starts: tuple[int, ...] = ()
    cell_numbers: tuple[int, ...] = ()
    limits: Limits = DEFAULT_LIMITS
    steps_left: int = field(default=MOST_STEPS, init=False)

    def extent(self, node: ast.AST) -> Extent:
        """Return the extent of a node in the document's text."""
        return self.in_text(self.code_extent(node))

    def in_text(self, extent: Extent) -> Extent:
        """Turn an extent of the code into one of the document's text."""
        return extent if self.places is None else self.places.in_text(extent)

    def written(self, code: str) -> str:
        """Return code as the document's text holds it: in a notebook, inside a JSON string."""
        return code if self.places is None else json.dumps(code, ensure_ascii=False)[1:-1]

    def code_extent(self, node: ast.AST) -> Extent:
        """Return the extent of a node in the code."""
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        end_line = getattr(node, "end_lineno", None) or line
        end_column = getattr(node, "end_col_offset", None) or column
        return self.offset(line, column), self.offset(end_line, end_column)

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a position of the tree, whose columns count bytes of UTF-8."""
        start = self._line_starts[line - 1]
        if self._is_ascii:
            return start + column
        # A character has at least one byte.
        before = self.code[start : start + column].encode()[:column]
        return start + len(before.decode(errors="ignore"))

    def cell_span(self, start: int, end: int) -> CellSpan | None:
        """Return the cell of an extent of the text, and the place in it; None: no notebook."""
        if self.places is None or not self.cell_starts:
            return None
        first = self.places.in_code(start)
        last = self.places.in_code(end - 1) + 1 if end > start else first
        line = bisect_right(self._line_starts, first)
        end_line = bisect_right(self._line_starts, max(last - 1, first))
        index = max(0, bisect_right(self.cell_starts, line) - 1)
        top, begin = self.cell_starts[index], self._line_starts[line - 1]
        end_column = last - self._line_starts[end_line - 1] + 1
        source = re.split(r"[\r\n]", self.code[begin : begin + 10_000], maxsplit=1)[0]
        return CellSpan(
            self.cell_numbers[index], line - top + 1, first - begin + 1,
            end_line - top + 1, end_column, source,
        )  # fmt: skip

    @cached_property
    def scopes(self) -> Scopes:
        """The scopes of the code, with the parent of each node."""
        return Scopes(self.tree)

    @cached_property
    def values(self) -> Values:
        """The values of the code's expressions."""
        return Values(self.scopes, self.limits)

    @cached_property
    def calls(self) -> list[Call]:
        """The calls of `AdaLoraConfig`."""
        return find_calls(self.values)

    @cached_property
    def is_about_adalora(self) -> bool:
        """Whether a name of the code is AdaLoRA's, one in a string included."""
        return any(_ABOUT.search(name) for node in self.scopes.of for name in _names(node))

    @cached_property
    def _is_ascii(self) -> bool:
        return self.code.isascii()

    @cached_property
    def _line_starts(self) -> list[int]:
        return _line_starts(self.code)


def _names(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        return (node.attr,)
    if isinstance(node, ast.alias):
        return (node.name.rpartition(".")[2],)
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return (node.name,)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        return (node.value,)  # as for getattr
    return ()
