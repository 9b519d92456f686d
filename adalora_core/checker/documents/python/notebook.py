"""Decode a notebook into a document: the code of its cells, with places in the file's own text."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents import json_source, problems
from adalora_core.checker.documents.document import Document
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.documents.python.lexical import without_magics
from adalora_core.checker.documents.python.script import Piece, Places, Script
from adalora_core.checker.documents.python.source import document_of, is_about, parse

if TYPE_CHECKING:
    from adalora_core.floor.limits import Limits
    from adalora_core.floor.places import Extent, Path

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_LIST = re.compile(r"[ \t\n\r]*:[ \t\n\r]*\[")
_DEPTH_OF_A_CELL = 3
_CELL_MAGIC = re.compile(r"\s*%%\s*(\w+)([^\r\n]*)")
_OF_PYTHON = frozenset({
    "time", "timeit", "capture", "prun", "memit", "debug", "python", "python3"
})  # fmt: skip
"""Magics of a whole cell whose other lines are Python; the others hold another language or text."""

_WRITING = frozenset({"writefile", "file"})
_LANGUAGES = (("language_info", "name"), ("kernelspec", "language"), ("kernelspec", "name"))
_PYTHON = re.compile(r"(?:.*/)?i?python[\d.]*(?:\.exe)?")


class _NotANotebookError(Exception):
    """The JSON is not that of a notebook; the message gives the reason."""


def decode(text: str, limits: Limits) -> Document:
    """Decode a notebook; each fault of the text becomes a problem of the document."""
    document = json_source.decode(without_outputs(text), limits)
    if document.fatal:
        document.text = text
        return document
    try:
        cells = list(_code_cells(document))
    except _NotANotebookError as error:
        problem = Problem(problems.SYNTAX_ERROR, f"not a notebook: {error}", offset=0)
        return Document(text, problems=[problem], fatal=True)
    code = "".join(code for _, code, _ in cells)
    pieces: list[Piece] = [piece for _, _, found in cells for piece in found]
    places = Places(text, pieces or [Piece(0, 0, (0, 0))])
    tree, found = _parsed(cells, places)
    numbers = tuple(number for number, _, _ in cells)
    script = Script(
        code, tree, places, _first_lines(cells), numbers, limits, is_about(document.text)
    )
    return document_of(text, script, found)


def _parsed(
    cells: list[tuple[int, str, list[Piece]]], places: Places
) -> tuple[ast.Module, list[Problem]]:
    """Return the tree of all cells that can be parsed, and the faults of the others."""
    tree = parse("".join(code for _, code, _ in cells))
    if isinstance(tree, ast.Module):
        return tree, []
    whole: list[str] = []
    found: list[Problem] = []
    offset = 0
    for _, code, _ in cells:
        problem = parse(code)
        if isinstance(problem, ast.Module):
            whole.append(code)
        else:
            whole.append(_blank(code))
            # A cell about something else need not be whole: the names in it are not known then.
            if is_about(code):
                start, _ = places.in_text((offset + (problem.offset or 0),) * 2)
                found.append(dataclasses.replace(problem, offset=start))
        offset += len(code)
    tree = parse("".join(whole))
    if isinstance(tree, Problem):  # cells that are whole one by one may be too many together
        return ast.Module([], []), [dataclasses.replace(tree, offset=0)]
    return tree, found


def _first_lines(cells: list[tuple[int, str, list[Piece]]]) -> tuple[int, ...]:
    """Return the line of the whole code on which each cell starts."""
    lines = [len(re.findall(r"\r\n|\r|\n", code)) for _, code, _ in cells]
    return tuple(accumulate(lines[:-1], initial=1)) if lines else ()


def _code_cells(document: Document) -> Iterator[tuple[int, str, list[Piece]]]:
    """Yield number, code and pieces of each cell with Python code.

    Raises:
        _NotANotebookError: the document has another form.
    """
    notebook = document.value
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        advice = ""
        if isinstance(notebook, dict) and "worksheets" in notebook:
            advice = "; it is of format 3: run jupyter nbconvert --to notebook"
        raise _NotANotebookError(f"it has no list `cells`{advice}")
    is_python = _is_of_python(notebook)
    start = 0
    for index, cell in enumerate(notebook["cells"]):
        if not isinstance(cell, dict):
            raise _NotANotebookError(f"cell {index + 1} is not an object")
        source = cell.get("source", "")
        parts = [source] if isinstance(source, str) else source
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise _NotANotebookError(f"the source of cell {index + 1} is not text")
        if cell.get("cell_type") == "code" and is_python and "source" in cell:
            pieces = _pieces(document, index, parts, start, is_list=isinstance(source, list))
            code = _python("".join(parts))
            code += "" if code.endswith(("\n", "\r")) else "\n"
            start += len(code)
            yield index + 1, code, pieces


def _pieces(
    document: Document, cell: int, parts: list[str], start: int, *, is_list: bool
) -> list[Piece]:
    assert document.locator is not None  # noqa: S101 - of JSON
    path: Path = ("cells", cell, "source")
    found = []
    for number, part in enumerate(parts):
        begin, end = document.locator.locate((*path, number) if is_list else path, "value")
        found.append(Piece(start, len(part), (begin + 1, end - 1)))
        start += len(part)
    return found


def _is_of_python(notebook: dict[str, Any]) -> bool:
    """Return whether a kernel of Python may run the notebook; the names may contradict."""
    metadata = notebook.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    found = []
    for section, key in _LANGUAGES:
        entry = metadata.get(section)
        name = entry.get(key) if isinstance(entry, dict) else None
        found.append(name.lower() if isinstance(name, str) else "")
    return not any(found[:2]) or any(name.startswith(("python", "ipython")) for name in found)


def _python(code: str) -> str:
    """Return the code of a cell as Python, in the same length: without magics and shell lines."""
    magic = _CELL_MAGIC.match(code)
    if magic is None:
        return without_magics(code)
    is_script = (magic[1] in _WRITING and magic[2].rstrip(" \t\"'").endswith(".py")) or (
        magic[1] == "script" and any(map(_PYTHON.fullmatch, magic[2].split()))
    )
    if magic[1] in _OF_PYTHON or is_script:
        head = magic.end()
        return _blank(code[:head]) + without_magics(code[head:])
    return _blank(code)


def _blank(code: str) -> str:
    return re.sub(r"[^\r\n]", " ", code)


def outputs_in(text: str) -> list[Extent]:
    """Return where the contents of the lists `outputs` are in all cells of a notebook.

    The text need not be JSON.
    """
    found: list[Extent] = []
    depth, start = 0, None
    for token in _TOKEN.finditer(text):
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
