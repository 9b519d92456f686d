"""Every door finds the same in a file: `check_config`, the command, the server, the playground."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from contract_corpus import CORPUS, write_entry
from lsprotocol import types

from adalora_core.checker.check import check_config
from adalora_core.commands.cli import main
from adalora_core.commands.server.checking import check, published
from adalora_core.commands.server.handlers import Documents

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    path
    for folder in ("corpus_later", "corpus_strangers", "corpus_lora")
    for path in sorted((ROOT / "tests" / "usage" / folder).iterdir())
    if path.name != "verdicts.json"
]


class Found(NamedTuple):
    """A finding; in a notebook its line and column are those of the cell."""

    code: str
    severity: str
    cell: int | None
    line: int
    column: int


def _in_python(path: Path) -> list[Found]:
    found = []
    for each in check_config(path).diagnostics:
        cell, span = each.span and each.span.cell, each.span
        place = cell or span
        line, column = (place.start_line, place.start_column) if place else (1, 1)
        found.append(Found(each.code, each.severity, cell and cell.number, line, column))
    return sorted(found)


def _in_json(findings: Iterable[dict[str, Any]]) -> list[Found]:
    found = []
    for each in findings:
        span = each["span"] or {"start": {"line": 1, "column": 1}}
        cell = span.get("cell")
        start = (cell or span)["start"]
        number = cell and cell["number"]
        found.append(Found(each["code"], each["severity"], number, start["line"], start["column"]))
    return sorted(found)


def _in_editor(path: Path) -> list[Found]:
    documents = Documents(None, position_encoding=types.PositionEncodingKind.Utf32)
    uri, text = path.as_uri(), path.read_bytes().decode("utf-8")
    cells: dict[str, int] = {}
    if path.suffix == ".ipynb":
        whole = json.loads(text)
        notebook = types.NotebookDocument(uri, "jupyter-notebook", 1, [], whole["metadata"])
        texts = []
        for number, cell in enumerate(whole["cells"], 1):
            if cell["cell_type"] != "code":
                continue  # no client sends it, since the server asks for cells of Python
            name = f"{uri}#{number}"
            cells[name] = number
            kind = types.NotebookCellKind.Code
            notebook.cells = [*notebook.cells, types.NotebookCell(kind, name)]
            texts.append(types.TextDocumentItem(name, "python", 1, "".join(cell["source"])))
        documents.put_notebook_document(types.DidOpenNotebookDocumentParams(notebook, texts))
    else:
        documents.put_text_document(types.TextDocumentItem(uri, "any", 1, text))
    snapshot = documents.snapshot(uri)
    assert snapshot is not None
    severities = {1: "error", 2: "warning", 3: "info"}
    return sorted(
        Found(
            str(each.code),
            severities[each.severity or 0],
            cells.get(text.uri),
            each.range.start.line + 1,
            each.range.start.character + 1,
        )
        for text in published(check(snapshot, ()))[1]
        for each in text.diagnostics
    )


@pytest.fixture(scope="module")
def answer():
    folder = ROOT / "docs" / "site" / "playground"
    sys.path[:0] = [str(folder), str(folder.parent)]
    try:
        import bridge

        yield bridge.answer
    finally:
        del sys.path[:2]


@pytest.mark.slow
def test_every_door_finds_the_same_in_every_file_of_the_corpora(tmp_path, capsys, answer):
    files = [write_entry(entry, tmp_path) for entry in CORPUS]
    for path in SCRIPTS:
        files.append(tmp_path / path.parent.name / path.name)
        files[-1].parent.mkdir(exist_ok=True)
        files[-1].write_bytes(path.read_bytes())
    main(["check", "--isolated", "-o", "json", *map(str, files)])
    named = {each["source"]: each for each in json.loads(capsys.readouterr().out)["reports"]}
    main(["check", "--isolated", "-o", "json", str(tmp_path)])
    searched = {each["source"]: each for each in json.loads(capsys.readouterr().out)["reports"]}
    differing, of_lora = {}, 0
    for path in files:
        asked = {"text": path.read_bytes().decode(), "format": "", "runtime": "peft"}
        unnamed = searched.get(str(path), {"diagnostics": []})
        doors = {
            "command": _in_json(named[str(path)]["diagnostics"]),
            "playground": _in_json(json.loads(answer(json.dumps(asked)))["findings"]),
            "search": _in_json(unnamed["diagnostics"]),
            "server": _in_editor(path),
        }
        expected = _in_python(path)
        if path.parent.name == "corpus_lora":
            of_lora += len(expected)
        if wrong := {door: found for door, found in doors.items() if found != expected}:
            differing[path.name] = wrong
    assert differing == {}
    assert of_lora == 29
