"""Decode Python source into a document, by its syntax tree alone."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from typing import TYPE_CHECKING
from unicodedata import combining, normalize

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.documents.python.configurations import document_of
from adalora_core.checker.documents.python.encodings import with_plain_letters
from adalora_core.checker.documents.python.script import Script

if TYPE_CHECKING:
    from adalora_core.floor.limits import Limits

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
        offset = _offset(code, error.lineno or 1, error.offset or 1)
        hint = None
        if not code[offset:].strip():
            hint = "check whether the file is cut off"
        return Problem(problems.SYNTAX_ERROR, message, offset=offset, hint=hint)
    except ValueError as error:  # half of a surrogate pair, in a notebook
        return Problem(problems.BAD_ENCODING, f"the code is not text: {error}", offset=0)
    except (RecursionError, MemoryError):
        message = "the code is nested too deeply for this interpreter"
        return Problem(problems.LIMIT_EXCEEDED, message, offset=0)


def _offset(code: str, line: int, column: int) -> int:
    ends = [match.end() for match in _LINE_END.finditer(code)]
    start = [0, *ends][min(line - 1, len(ends))]
    return min(start + column - 1, len(code))
