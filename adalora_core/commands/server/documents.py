"""Keep the texts and notebooks that the client has open, in the workspace of pygls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import unquote

from lsprotocol import types
from pygls.uris import to_fs_path
from pygls.workspace import TextDocument, Workspace

from adalora_core.checker.documents.document import SUFFIXES, Format
from adalora_core.commands.server.snapshots import Part, Snapshot
from adalora_core.commands.server.text import Encoding, Text


def path_of(uri: str) -> Path | None:
    """Return the path of a file that a client names; None: it is not a file."""
    try:
        name = to_fs_path(uri)
    except ValueError:  # such as a bracket that nothing closes
        return None
    if not name or "\0" in name or not Path(name).is_absolute():
        return None
    return Path(name)


class _OpenText(TextDocument):
    """A text as its edits leave it; pygls' own takes the time of the whole text for each edit."""

    def __init__(self, item: types.TextDocumentItem, encoding: Encoding) -> None:
        super().__init__(item.uri, "", item.version, item.language_id)
        self._encoding = encoding
        self.text = Text.of(item.text)

    def apply_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        if isinstance(change, types.TextDocumentContentChangePartial):
            start, end = change.range.start, change.range.end
            places = (start.line, start.character), (end.line, end.character)
            self.text = self.text.edited(*places, change.text, self._encoding)
        else:
            self.text = Text.of(change.text)


class Documents(Workspace):
    """The open documents."""

    @property
    def encoding(self) -> Encoding:
        """The units in which the client counts."""
        return cast("Encoding", self.position_encoding)  # a member of an enumeration is a string

    def put_text_document(
        self, text_document: types.TextDocumentItem, notebook_uri: str | None = None
    ) -> None:
        """Note a text document, or a cell of a notebook."""
        super().put_text_document(text_document, notebook_uri)
        opened = _OpenText(text_document, self.encoding)
        self.text_documents[unquote(text_document.uri)] = opened

    def names(self) -> list[str]:
        """Return the names of all documents, without those of cells."""
        opened = (*self.text_documents.values(), *self.notebook_documents.values())
        return [each.uri for each in opened if self.owner(each.uri) == each.uri]

    def owner(self, uri: str) -> str:
        """Return the name of the document that a text is a part of."""
        notebook = self.get_notebook_document(cell_uri=uri)
        return uri if notebook is None else notebook.uri

    def snapshot(self, uri: str) -> Snapshot | None:
        """Return a document as it is now; None: it is not open, or of another format."""
        notebook = self.get_notebook_document(notebook_uri=uri)
        path = path_of(uri)
        if notebook is not None:
            metadata = _metadata(notebook.metadata)
            parts = tuple(part for cell in notebook.cells if (part := self._part(cell)))
            return Snapshot(uri, path, "notebook", parts, self.encoding, metadata)
        opened = self.text_documents.get(unquote(uri))
        if not isinstance(opened, _OpenText) or self.owner(uri) != uri:
            return None
        format_ = None
        if path is not None:
            format_ = SUFFIXES.get(path.suffix.lower())
        elif uri.startswith("untitled:"):  # and not the other side of a difference
            format_ = next((each for each in get_args(Format) if each == opened.language_id), None)
        if format_ is None:
            return None
        part = Part(uri, opened.version, opened.text)
        return Snapshot(uri, path, format_, (part,), self.encoding)

    def _part(self, cell: types.NotebookCell) -> Part | None:
        opened = self.text_documents.get(unquote(cell.document))
        if not isinstance(opened, _OpenText):
            return None
        is_code = cell.kind == types.NotebookCellKind.Code
        return Part(cell.document, opened.version, opened.text, is_code)


def _metadata(found: Any) -> dict[str, Any]:
    """Return the metadata of a notebook as JSON values; clients send objects of their own."""
    try:
        value = json.loads(json.dumps(found, default=vars))
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
