"""Answer a client: documents in; diagnostics, descriptions, fixes and proposals out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from adalora_core.commands.server.documents import Documents, path_of
from adalora_core.commands.server.findings import ACTION_KINDS, actions
from adalora_core.commands.server.hovering import hover, lenses
from adalora_core.commands.server.schedule import Schedule
from adalora_core.commands.server.snapshots import ClientRange
from adalora_core.commands.server.worker import Answer, RemoteChecker

_LOG = logging.getLogger(__name__)
_NOTEBOOKS = types.NotebookDocumentSyncOptions(
    [
        types.NotebookDocumentFilterWithNotebook(
            types.NotebookDocumentFilterNotebookType("jupyter-notebook"),
            [types.NotebookCellLanguage("python")],
        )
    ]
)


class Server(LanguageServer):
    """The language server of one client."""

    def __init__(self) -> None:
        super().__init__(
            "adalora",
            version("adalora-core"),
            notebook_document_sync=_NOTEBOOKS,
        )
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

    def note_folders(self) -> None:
        """Take over the folders that the client has open."""
        uris = [*self.workspace.folders] or [self.workspace.root_uri or ""]
        folders = tuple(path for uri in uris if (path := path_of(uri)))
        shows = self.has_client("text_document", "publish_diagnostics", "related_information")
        self.checker.open_folders(folders, with_related=shows)

    def has_client(self, *names: str) -> bool:
        """Return whether the client has a capability."""
        value: Any = getattr(self.protocol, "client_capabilities", None)
        for name in names:
            value = getattr(value, name, None)
        return bool(value)

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

    def _publish(self, checked: Answer) -> None:
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


def _text_changed(
    ls: Server, params: types.DidOpenTextDocumentParams | types.DidChangeTextDocumentParams
) -> None:
    ls.schedule.changed(params.text_document.uri)


async def _text_saved(ls: Server, params: types.DidSaveTextDocumentParams) -> None:
    path = path_of(params.text_document.uri)
    is_setting = path is not None and await ls.schedule.beside(partial(ls.checker.reads, path))
    ls.checker.forget()
    if is_setting:
        ls.check_again()


def _text_closed(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
    uri = params.text_document.uri
    ls.schedule.closed(uri)
    ls.clear([params.text_document])


def _notebook_changed(ls: Server, params: types.DidChangeNotebookDocumentParams) -> None:
    structure = params.change.cells and params.change.cells.structure
    ls.clear((structure and structure.did_close) or ())
    ls.schedule.changed(params.notebook_document.uri)


def _notebook_closed(ls: Server, params: types.DidCloseNotebookDocumentParams) -> None:
    ls.schedule.closed(params.notebook_document.uri)
    ls.clear(params.cell_text_documents)


async def _about(
    ls: Server, uri: str, find: Callable[..., Any], *given: Any, **options: Any
) -> Any:
    answer = await ls.schedule.newest(ls.documents.owner(uri))
    if answer is None:
        return None
    return await ls.schedule.beside(partial(ls.checker.about, find, answer, *given, **options))


async def _hover(ls: Server, params: types.HoverParams) -> types.Hover | None:
    uri, position = params.text_document.uri, params.position
    found: types.Hover | None = await _about(
        ls, uri, hover, uri, (position.line, position.character)
    )
    return found


async def _code_lens(ls: Server, params: types.CodeLensParams) -> list[types.CodeLens]:
    uri = params.text_document.uri
    return await _about(ls, uri, lenses, uri) or []


async def _code_action(ls: Server, params: types.CodeActionParams) -> list[types.CodeAction]:
    uri, start, end = params.text_document.uri, params.range.start, params.range.end
    place = ClientRange(uri, (start.line, start.character), (end.line, end.character))
    versioned = ls.has_client("workspace", "workspace_edit", "document_changes")
    kinds = params.context.only
    return await _about(ls, uri, actions, place, kinds, versioned=versioned) or []


async def _completion(ls: Server, params: types.CompletionParams) -> types.CompletionList:
    uri = params.text_document.uri
    snapshot = ls.documents.snapshot(ls.documents.owner(uri))
    items: list[types.CompletionItem] = []
    if snapshot is not None:
        place = params.position.line, params.position.character
        find = partial(ls.checker.completions, snapshot, uri, place)
        items = await ls.schedule.beside(find)
    return types.CompletionList(is_incomplete=False, items=items)


_HANDLERS: dict[str, tuple[Callable[..., Any], Any]] = {
    types.INITIALIZE: (lambda ls, _: ls.begin(), None),
    types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: (_folders_changed, None),
    types.TEXT_DOCUMENT_DID_OPEN: (_text_changed, None),
    types.TEXT_DOCUMENT_DID_CHANGE: (_text_changed, None),
    types.TEXT_DOCUMENT_DID_SAVE: (_text_saved, None),
    types.TEXT_DOCUMENT_DID_CLOSE: (_text_closed, None),
    types.NOTEBOOK_DOCUMENT_DID_OPEN: (
        lambda ls, params: ls.schedule.changed(params.notebook_document.uri),
        None,
    ),
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
