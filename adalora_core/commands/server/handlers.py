"""Answer a client: documents in; diagnostics, descriptions, fixes and proposals out.

Texts and notebooks are kept in the workspace of pygls. Typing never waits, and no check waits
behind old ones. The worker that checks has limits of the system: a document that exceeds a bound
has one finding, and the next request gets a new worker.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path
from pygls.workspace import TextDocument, Workspace

from adalora_core.checker.documents.document import SUFFIXES, Format
from adalora_core.checker.documents.problems import BOUND_EXCEEDED
from adalora_core.commands.cli.settings import IGNORE_FILE
from adalora_core.commands.server.checking import (
    ACTION_KINDS,
    SOURCE,
    Published,
    actions,
    hover,
    lenses,
    published,
)
from adalora_core.commands.server.completing import completions
from adalora_core.commands.server.snapshots import START, Snapshot, Text
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.floor.worker import Worker

_LOG = logging.getLogger(__name__)
PROGRAM = "from adalora_core.commands.server.checking import work; work(reading, writing)"
QUIET = 0.02
"""Seconds without an edit after which a document is checked."""
_SETTINGS = ("pyproject.toml", IGNORE_FILE)
_PYTHON = types.NotebookCellLanguage("python")
_NOTEBOOKS = types.NotebookDocumentSyncOptions(
    [types.NotebookDocumentFilterWithNotebook("jupyter-notebook", [_PYTHON])]
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
        self.text = Text.of(item.text, encoding, item.uri)

    def apply_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        if isinstance(change, types.TextDocumentContentChangePartial):
            self.text = self.text.edited(change.range, change.text)
        else:
            self.text = Text.of(change.text, self.text.encoding, self.uri)


class Documents(Workspace):
    """The open documents."""

    def put_text_document(
        self, text_document: types.TextDocumentItem, notebook_uri: str | None = None
    ) -> None:
        """Note a text document, or a cell of a notebook."""
        super().put_text_document(text_document, notebook_uri)
        opened = _OpenText(text_document, self.position_encoding or "utf-16")
        self.text_documents[unquote(text_document.uri)] = opened

    def owner(self, uri: str) -> str:
        """Return the name of the document that a text is a part of."""
        notebook = self.get_notebook_document(cell_uri=uri)
        return uri if notebook is None else notebook.uri

    def snapshot(self, uri: str) -> Snapshot | None:
        """Return a document as it is now; None: it is not open, or of another format."""
        path = path_of(uri)
        if (notebook := self.get_notebook_document(notebook_uri=uri)) is not None:
            parts = tuple(part for cell in notebook.cells for part in self._text(cell.document))
            return Snapshot(uri, path, "notebook", parts)
        format_ = None if path is None else SUFFIXES.get(path.suffix.lower())
        if uri.startswith("untitled:"):  # and not the other side of a difference
            language = getattr(self.text_documents.get(unquote(uri)), "language_id", None)
            format_ = next((each for each in get_args(Format) if each == language), None)
        parts = self._text(uri)
        return Snapshot(uri, path, format_, parts) if parts and format_ is not None else None

    def _text(self, uri: str) -> tuple[Text, ...]:
        """Return a text as it is now, if it is open."""
        opened = self.text_documents.get(unquote(uri))
        if not isinstance(opened, _OpenText):
            return ()
        return (replace(opened.text, uri=uri, version=opened.version),)


class Checks:
    """The checks of all open documents in a worker, one at a time, each of the newest text only.

    `take` returns a document as it is now, None if it is not open. `publish` takes what is found,
    unless the document has changed since.
    """

    def __init__(
        self, take: Callable[[str], Snapshot | None], publish: Callable[[Published], None]
    ) -> None:
        self._take, self._publish = take, publish
        self._worker = Worker(PROGRAM, OF_A_CHECK)
        self.folders: tuple[Path, ...] = ()
        """The folders that the editor has open."""
        self._states = count()
        self._open: dict[str, tuple[int, asyncio.Task[None]]] = {}
        self._beyond: dict[int, str] = {}
        self._thread = ThreadPoolExecutor(1, "adalora-check")
        self._turn = asyncio.Lock()

    def changed(self, uri: str) -> None:
        """Note that a document was opened or edited."""
        self.closed(uri)
        self._open[uri] = next(self._states), asyncio.create_task(self._check(uri))

    def closed(self, uri: str) -> None:
        """Forget a state of a document; a check of it that still runs is not published."""
        if (old := self._open.pop(uri, None)) is not None:
            old[1].cancel()

    def check_again(self) -> None:
        """Check every open document with the settings as they are now."""
        for uri in [*self._open]:
            self.changed(uri)

    async def ask(self, uri: str, find: Callable[..., Any], *given: Any) -> Any:
        """Return what `find` finds in the newest state of a document; None: it is not open."""
        # Requests wait here, and not with a text that will be old by their turn.
        async with self._turn:
            snapshot = self._take(uri) if uri in self._open else None
            if snapshot is None:
                return None
            work = partial(self.answer, self._open[uri][0], snapshot, find, *given)
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _check(self, uri: str) -> None:
        await asyncio.sleep(QUIET)
        if (found := await self.ask(uri, published)) is not None:
            self._publish(found)

    def answer(self, state: int, snapshot: Snapshot, find: Callable[..., Any], *given: Any) -> Any:
        """Return what `find` finds in a document, which an earlier request may have had checked.

        Where the check exceeds a bound, this is the only finding; the state is not tried again.
        """
        if state not in self._beyond:
            content = None
            with suppress(BrokenPipeError):
                self._worker.send(pickle.dumps((self.folders, state, snapshot, find, given)))
                content = self._worker.answer()
            if content is not None:
                return pickle.loads(content)  # noqa: S301 - of our own process
            self._worker.end()
            self._beyond[state] = self._worker.reason or "ends the process that reads it"
            self._worker = Worker(PROGRAM, OF_A_CHECK)
        if find is not published:
            return None
        one = types.Diagnostic(
            types.Range(START, START),
            f"the check of the file {self._beyond[state]}",
            severity=types.DiagnosticSeverity.Error,
            code=BOUND_EXCEEDED,
            source=SOURCE,
        )
        return None, [
            types.PublishDiagnosticsParams(part.uri, [one] * (number == 0), part.version)
            for number, part in enumerate(snapshot.parts)
        ]


class Server(LanguageServer):
    """The language server of one client."""

    def __init__(self) -> None:
        super().__init__("adalora", version("adalora-core"), notebook_document_sync=_NOTEBOOKS)
        self.documents = Documents(None)
        # The documents are others once the client has sent its first message.
        self.checks = Checks(lambda uri: self.documents.snapshot(uri), self._publish)  # noqa: PLW0108
        self._shown: set[str] = set()

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
        """Take over the folders that the client has open, and check with their settings."""
        uris = [*self.workspace.folders] or [self.workspace.root_uri or ""]
        self.checks.folders = tuple(path for uri in uris if (path := path_of(uri)))
        self.checks.check_again()

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log an error that no answer reports; a malformed message may be one of thousands."""
        _LOG.error("%s: %s", getattr(source, "__name__", source), error)

    def _publish(self, found: Published) -> None:
        problem, texts = found
        if problem is not None and problem not in self._shown:
            self._shown.add(problem)
            kind = types.MessageType.Error
            self.window_show_message(types.ShowMessageParams(kind, f"adalora: {problem}"))
        for each in texts:
            self.text_document_publish_diagnostics(each)


def _uri(params: Any) -> str:
    named = getattr(params, "text_document", None) or params.notebook_document
    return str(named.uri)


def _changed(ls: Server, params: Any) -> None:
    ls.checks.changed(_uri(params))


def _notebook_changed(ls: Server, params: types.DidChangeNotebookDocumentParams) -> None:
    structure = params.change.cells and params.change.cells.structure
    for each in (structure and structure.did_close) or ():
        ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(each.uri, []))
    ls.checks.changed(_uri(params))


def _closed(ls: Server, params: Any) -> None:
    ls.checks.closed(_uri(params))
    for each in getattr(params, "cell_text_documents", None) or [params.text_document]:
        ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(each.uri, []))


async def _about(ls: Server, params: Any, find: Callable[..., Any]) -> Any:
    return await ls.checks.ask(ls.documents.owner(_uri(params)), find, params)


_HANDLERS: dict[str, tuple[Callable[..., Any], Any]] = {
    types.INITIALIZE: (lambda ls, _: ls.begin(), None),
    types.INITIALIZED: (lambda ls, _: ls.watch_settings(), None),
    types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: (lambda ls, _: ls.note_folders(), None),
    types.WORKSPACE_DID_CHANGE_WATCHED_FILES: (lambda ls, _: ls.checks.check_again(), None),
    types.TEXT_DOCUMENT_DID_OPEN: (_changed, None),
    types.TEXT_DOCUMENT_DID_CHANGE: (_changed, None),
    # A policy has any name.
    types.TEXT_DOCUMENT_DID_SAVE: (lambda ls, _: ls.checks.check_again(), None),
    types.TEXT_DOCUMENT_DID_CLOSE: (_closed, None),
    types.NOTEBOOK_DOCUMENT_DID_OPEN: (_changed, None),
    types.NOTEBOOK_DOCUMENT_DID_CHANGE: (_notebook_changed, None),
    types.NOTEBOOK_DOCUMENT_DID_CLOSE: (_closed, None),
    types.TEXT_DOCUMENT_HOVER: (partial(_about, find=hover), None),
    types.TEXT_DOCUMENT_CODE_LENS: (partial(_about, find=lenses), None),
    types.TEXT_DOCUMENT_CODE_ACTION: (
        partial(_about, find=actions),
        types.CodeActionOptions(ACTION_KINDS),
    ),
    types.TEXT_DOCUMENT_COMPLETION: (
        partial(_about, find=completions),
        types.CompletionOptions(trigger_characters=['"', ":", "=", "(", " "]),
    ),
}


def new_server() -> Server:
    """Return a server that handles every message it knows."""
    server = Server()
    for method, (handler, options) in _HANDLERS.items():
        server.feature(method, options)(handler)
    return server
