"""Answer a client: documents in; diagnostics, descriptions, fixes and proposals out.

Texts and notebooks are kept in the workspace of pygls.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path
from pygls.workspace import TextDocument, Workspace

from adalora_core.checker.documents.document import SUFFIXES, Format
from adalora_core.commands.cli.settings import IGNORE_FILE
from adalora_core.commands.server.checking import RemoteChecker, Schedule
from adalora_core.commands.server.findings import ACTION_KINDS, actions, hover, lenses
from adalora_core.commands.server.snapshots import CheckedSnapshot, Part, Snapshot, Text

_LOG = logging.getLogger(__name__)
_SETTINGS = ("pyproject.toml", IGNORE_FILE)
_NOTEBOOKS = types.NotebookDocumentSyncOptions(
    [
        types.NotebookDocumentFilterWithNotebook(
            types.NotebookDocumentFilterNotebookType("jupyter-notebook"),
            [types.NotebookCellLanguage("python")],
        )
    ]
)


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

    def __init__(self, item: types.TextDocumentItem, encoding: str) -> None:
        super().__init__(item.uri, "", item.version, item.language_id)
        self.text = Text.of(item.text, encoding)

    def apply_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        if isinstance(change, types.TextDocumentContentChangePartial):
            self.text = self.text.edited(change.range, change.text)
        else:
            self.text = Text.of(change.text, self.text.encoding)


class Documents(Workspace):
    """The open documents."""

    def put_text_document(
        self, text_document: types.TextDocumentItem, notebook_uri: str | None = None
    ) -> None:
        """Note a text document, or a cell of a notebook."""
        super().put_text_document(text_document, notebook_uri)
        opened = _OpenText(text_document, self.position_encoding or "utf-16")
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
            return Snapshot(uri, path, "notebook", parts, metadata)
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
        return Snapshot(uri, path, format_, (Part(uri, opened.version, opened.text),))

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


class Server(LanguageServer):
    """The language server of one client."""

    def __init__(self) -> None:
        super().__init__("adalora", version("adalora-core"), notebook_document_sync=_NOTEBOOKS)
        self.documents = Documents(None)
        self.checker = RemoteChecker()
        self.schedule = Schedule(
            lambda uri: self.documents.snapshot(uri),  # noqa: PLW0108 - others are used later
            self.checker.check,
            self._publish,
        )
        self._shown: set[str] = set()

    @property
    def was_shut_down(self) -> bool:
        """Whether the client has asked for the end."""
        return self.protocol._shutdown  # noqa: SLF001

    def begin(self) -> None:
        """Take over what the client has asked for in its first message."""
        # pygls makes a workspace of its own for the first message.
        given = self.workspace
        folders = [*given.folders.values()]
        self.documents = self.protocol._workspace = Documents(  # noqa: SLF001
            given.root_uri, workspace_folders=folders, position_encoding=given.position_encoding
        )
        self.note_folders()

    def watch_settings(self) -> None:
        """Ask the client to report changes of the files that change what is checked, and how."""
        workspace = self.client_capabilities.workspace
        watching = workspace and workspace.did_change_watched_files
        if watching and watching.dynamic_registration:
            watchers = [types.FileSystemWatcher(f"**/{name}") for name in _SETTINGS]
            options = types.DidChangeWatchedFilesRegistrationOptions(watchers)
            method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
            asked = types.RegistrationParams([types.Registration("settings", method, options)])
            self.client_register_capability(asked)

    def note_folders(self) -> None:
        """Take over the folders that the client has open."""
        uris = [*self.workspace.folders] or [self.workspace.root_uri or ""]
        self.checker.folders = tuple(path for uri in uris if (path := path_of(uri)))

    def check_again(self) -> None:
        """Check every open document with the settings as they are now."""
        for uri in self.documents.names():
            self.schedule.changed(uri)

    def clear(self, texts: Iterable[types.TextDocumentIdentifier]) -> None:
        """Remove the diagnostics of texts that are closed."""
        for each in texts:
            self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(each.uri, []))

    def show_once(self, message: str) -> None:
        """Show a message to the user, the first time only."""
        if message not in self._shown:
            self._shown.add(message)
            kind = types.MessageType.Error
            self.window_show_message(types.ShowMessageParams(kind, f"adalora: {message}"))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log an error that no answer reports; a malformed message may be one of thousands."""
        _LOG.error("%s: %s", getattr(source, "__name__", source), error)

    def _publish(self, checked: CheckedSnapshot) -> None:
        if checked.problem is not None:
            self.show_once(checked.problem)
        for part in checked.snapshot.parts:
            found = checked.diagnostics.get(part.uri, [])
            self.text_document_publish_diagnostics(
                types.PublishDiagnosticsParams(part.uri, found, part.version)
            )


def _folders_changed(ls: Server, _: types.DidChangeWorkspaceFoldersParams) -> None:
    ls.note_folders()
    ls.check_again()


def _text_closed(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
    ls.schedule.closed(params.text_document.uri)
    ls.clear([params.text_document])


def _notebook_changed(ls: Server, params: types.DidChangeNotebookDocumentParams) -> None:
    structure = params.change.cells and params.change.cells.structure
    ls.clear((structure and structure.did_close) or ())
    ls.schedule.changed(params.notebook_document.uri)


def _notebook_closed(ls: Server, params: types.DidCloseNotebookDocumentParams) -> None:
    ls.schedule.closed(params.notebook_document.uri)
    ls.clear(params.cell_text_documents)


async def _about(ls: Server, uri: str, find: Callable[..., Any], *given: Any) -> Any:
    checked = await ls.schedule.newest(ls.documents.owner(uri))
    if checked is None:
        return None
    return await ls.schedule.beside(partial(ls.checker.about, find, checked, *given))


async def _hover(ls: Server, params: types.HoverParams) -> Any:
    uri = params.text_document.uri
    return await _about(ls, uri, hover, uri, params.position)


async def _code_lens(ls: Server, params: types.CodeLensParams) -> Any:
    uri = params.text_document.uri
    return await _about(ls, uri, lenses, uri) or []


async def _code_action(ls: Server, params: types.CodeActionParams) -> Any:
    place = types.Location(params.text_document.uri, params.range)
    return await _about(ls, place.uri, actions, place, params.context.only) or []


async def _completion(ls: Server, params: types.CompletionParams) -> types.CompletionList:
    uri = params.text_document.uri
    snapshot = ls.documents.snapshot(ls.documents.owner(uri))
    find = partial(ls.checker.completions, snapshot, uri, params.position)
    items = [] if snapshot is None else await ls.schedule.beside(find)
    return types.CompletionList(is_incomplete=False, items=items)


def _text_changed(ls: Server, params: Any) -> None:
    ls.schedule.changed(params.text_document.uri)


def _notebook_opened(ls: Server, params: types.DidOpenNotebookDocumentParams) -> None:
    ls.schedule.changed(params.notebook_document.uri)


_HANDLERS: dict[str, tuple[Callable[..., Any], Any]] = {
    types.INITIALIZE: (lambda ls, _: ls.begin(), None),
    types.INITIALIZED: (lambda ls, _: ls.watch_settings(), None),
    types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: (_folders_changed, None),
    types.WORKSPACE_DID_CHANGE_WATCHED_FILES: (lambda ls, _: ls.check_again(), None),
    types.TEXT_DOCUMENT_DID_OPEN: (_text_changed, None),
    types.TEXT_DOCUMENT_DID_CHANGE: (_text_changed, None),
    # A policy has any name.
    types.TEXT_DOCUMENT_DID_SAVE: (lambda ls, _: ls.check_again(), None),
    types.TEXT_DOCUMENT_DID_CLOSE: (_text_closed, None),
    types.NOTEBOOK_DOCUMENT_DID_OPEN: (_notebook_opened, None),
    types.NOTEBOOK_DOCUMENT_DID_CHANGE: (_notebook_changed, None),
    types.NOTEBOOK_DOCUMENT_DID_CLOSE: (_notebook_closed, None),
    types.TEXT_DOCUMENT_HOVER: (_hover, None),
    types.TEXT_DOCUMENT_CODE_LENS: (_code_lens, None),
    types.TEXT_DOCUMENT_CODE_ACTION: (_code_action, types.CodeActionOptions(ACTION_KINDS)),
    types.TEXT_DOCUMENT_COMPLETION: (
        _completion,
        types.CompletionOptions(trigger_characters=['"', ":", "=", "(", " "]),
    ),
}


def new_server() -> Server:
    """Return a server that handles every message it knows."""
    server = Server()
    for method, (handler, options) in _HANDLERS.items():
        server.feature(method, options)(handler)
    return server
