"""Keep the texts and notebooks that the client has open, as its edits leave them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lsprotocol import types
from pygls.uris import to_fs_path

from adalora_core.checker.documents.document import SUFFIXES, Format
from adalora_core.commands.server.snapshots import Part, Snapshot
from adalora_core.commands.server.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from adalora_core.commands.server.text import Encoding

    Change = types.TextDocumentContentChangePartial | types.TextDocumentContentChangeWholeDocument

LONGEST_PATH = 4096
_LOG = logging.getLogger(__name__)


def path_of(uri: str) -> Path | None:
    """Return the path of a file that a client names; None: it is not a file."""
    try:
        name = to_fs_path(uri)
    except ValueError:  # such as a bracket that nothing closes
        return None
    if not name or len(name) > LONGEST_PATH or "\0" in name or not Path(name).is_absolute():
        return None
    return Path(name)


def _format_of(uri: str, language: str) -> Format | None:
    """Return the format of a document; None: it is of no format that is checked."""
    path = path_of(uri)
    if path is not None:
        return SUFFIXES.get(path.suffix.lower())
    if not uri.startswith("untitled:"):  # a cell of a notebook, the other side of a difference
        return None
    return next((each for each in get_args(Format) if each == language), None)


@dataclass
class _Notebook:
    metadata: dict[str, Any]
    cells: list[types.NotebookCell]


@dataclass
class Documents:
    """The open documents by their names.

    Args:
        encoding: the units in which the client counts.
    """

    encoding: Encoding = "utf-16"
    _texts: dict[str, Part] = field(default_factory=dict)
    _formats: dict[str, Format] = field(default_factory=dict)
    _notebooks: dict[str, _Notebook] = field(default_factory=dict)
    _owners: dict[str, str] = field(default_factory=dict)
    """Of each cell, the name of its notebook."""

    def names(self) -> list[str]:
        """Return the names of all documents that are checked."""
        return [*self._formats, *self._notebooks]

    def owner(self, uri: str) -> str:
        """Return the name of the document that a text is a part of."""
        return self._owners.get(uri, uri)

    def snapshot(self, uri: str) -> Snapshot | None:
        """Return a document as it is now; None: it is not open, or of another format."""
        notebook = self._notebooks.get(uri)
        if notebook is not None:
            parts = tuple(
                replace(
                    self._texts[cell.document], is_code=cell.kind == types.NotebookCellKind.Code
                )
                for cell in notebook.cells
                if cell.document in self._texts
            )
            return Snapshot(uri, path_of(uri), "notebook", parts, self.encoding, notebook.metadata)
        if uri not in self._formats:
            return None
        return Snapshot(uri, path_of(uri), self._formats[uri], (self._texts[uri],), self.encoding)

    def open_text(self, item: types.TextDocumentItem) -> None:
        """Note a text document."""
        format_ = _format_of(item.uri, item.language_id)
        if format_ is not None:
            self._formats[item.uri] = format_
            self._open([item])

    def change_text(
        self, document: types.VersionedTextDocumentIdentifier, changes: Iterable[Change]
    ) -> None:
        """Edit a text document or a cell, one change after the other."""
        part = self._texts.get(document.uri)
        if part is None:
            return
        text = part.text
        for change in changes:
            if isinstance(change, types.TextDocumentContentChangePartial):
                start, end = change.range.start, change.range.end
                text = text.edited(
                    (start.line, start.character), (end.line, end.character), change.text,
                    self.encoding,
                )  # fmt: skip
            else:
                text = Text.of(change.text)
        self._texts[document.uri] = replace(part, text=text, version=document.version)

    def close_text(self, uri: str) -> None:
        """Forget a text document."""
        self._formats.pop(uri, None)
        self._close([uri])

    def open_notebook(
        self, notebook: types.NotebookDocument, texts: Sequence[types.TextDocumentItem]
    ) -> None:
        """Note a notebook and its cells."""
        self._notebooks[notebook.uri] = _Notebook(
            _metadata(notebook.metadata), list(notebook.cells)
        )
        self._open(texts, notebook.uri)

    def change_notebook(self, uri: str, change: types.NotebookDocumentChangeEvent) -> list[str]:
        """Edit a notebook; return the cells that are gone."""
        notebook = self._notebooks.get(uri)
        if notebook is None:
            _LOG.warning("a change of a notebook that is not open: %r", uri)
            return []
        if change.metadata is not None:
            notebook.metadata = _metadata(change.metadata)
        gone: list[str] = []
        cells = change.cells
        if cells is None:
            return gone
        if cells.structure is not None:
            array = cells.structure.array
            end = array.start + array.delete_count
            notebook.cells[array.start : end] = array.cells or []
            self._open(cells.structure.did_open or [], uri)
            gone = [each.uri for each in cells.structure.did_close or []]
            self._close(gone)
        changed = {cell.document: cell for cell in cells.data or []}
        notebook.cells = [changed.get(cell.document, cell) for cell in notebook.cells]
        for each in cells.text_content or []:
            if self._owners.get(each.document.uri) == uri:
                self.change_text(each.document, each.changes)
        return gone

    def close_notebook(self, uri: str) -> list[str]:
        """Forget a notebook; return its cells."""
        self._notebooks.pop(uri, None)
        cells = [cell for cell, owner in self._owners.items() if owner == uri]
        self._close(cells)
        return cells

    def _open(self, items: Iterable[types.TextDocumentItem], notebook: str | None = None) -> None:
        for item in items:
            self._texts[item.uri] = Part(item.uri, item.version, Text.of(item.text))
            if notebook is not None:
                self._owners[item.uri] = notebook

    def _close(self, uris: Iterable[str]) -> None:
        for uri in uris:
            self._texts.pop(uri, None)
            self._owners.pop(uri, None)


def _metadata(found: Any) -> dict[str, Any]:
    """Return the metadata of a notebook as JSON values; clients send objects of their own."""
    import json

    try:
        value = json.loads(json.dumps(found, default=vars))
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
