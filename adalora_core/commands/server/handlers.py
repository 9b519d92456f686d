"""Handle the messages of a client, one function for each kind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from adalora_core.commands.server.completing import completions
from adalora_core.commands.server.documents import path_of
from adalora_core.commands.server.findings import ACTION_KINDS, actions
from adalora_core.commands.server.hovering import hover, lenses
from adalora_core.commands.server.language_server import Server
from adalora_core.commands.server.snapshots import ClientRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from adalora_core.commands.server.snapshots import Snapshot


def _initialize(ls: Server, params: types.InitializeParams) -> None:
    del params
    ls.begin()


def _shutdown(ls: Server, params: None) -> None:
    del params
    ls.was_shut_down = True


def _folders_changed(ls: Server, params: types.DidChangeWorkspaceFoldersParams) -> None:
    del params
    ls.note_folders()
    ls.check_again()


def _text_opened(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
    ls.documents.open_text(params.text_document)
    ls.schedule.changed(params.text_document.uri)


def _text_changed(ls: Server, params: types.DidChangeTextDocumentParams) -> None:
    ls.documents.change_text(params.text_document, params.content_changes)
    ls.schedule.changed(params.text_document.uri)


def _text_saved(ls: Server, params: types.DidSaveTextDocumentParams) -> None:
    path = path_of(params.text_document.uri)
    is_setting = path is not None and ls.checker.projects.reads(path)
    ls.checker.projects.forget()
    if is_setting:
        ls.check_again()


def _text_closed(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
    uri = params.text_document.uri
    ls.documents.close_text(uri)
    ls.schedule.closed(uri)
    ls.clear([uri])


def _notebook_opened(ls: Server, params: types.DidOpenNotebookDocumentParams) -> None:
    ls.documents.open_notebook(params.notebook_document, params.cell_text_documents)
    ls.schedule.changed(params.notebook_document.uri)


def _notebook_changed(ls: Server, params: types.DidChangeNotebookDocumentParams) -> None:
    uri = params.notebook_document.uri
    ls.clear(ls.documents.change_notebook(uri, params.change))
    ls.schedule.changed(uri)


def _notebook_closed(ls: Server, params: types.DidCloseNotebookDocumentParams) -> None:
    uri = params.notebook_document.uri
    ls.schedule.closed(uri)
    ls.clear(ls.documents.close_notebook(uri))


async def _hover(ls: Server, params: types.HoverParams) -> types.Hover | None:
    uri, position = params.text_document.uri, params.position
    checked = await ls.schedule.newest(ls.documents.owner(uri))
    if checked is None:
        return None
    place = position.line, position.character
    return await ls.schedule.beside(partial(hover, checked, uri, place))


async def _code_lens(ls: Server, params: types.CodeLensParams) -> list[types.CodeLens]:
    uri = params.text_document.uri
    checked = await ls.schedule.newest(ls.documents.owner(uri))
    if checked is None:
        return []
    return await ls.schedule.beside(partial(lenses, checked, uri))


async def _code_action(ls: Server, params: types.CodeActionParams) -> list[types.CodeAction]:
    uri, range_ = params.text_document.uri, params.range
    checked = await ls.schedule.newest(ls.documents.owner(uri))
    if checked is None:
        return []
    place = ClientRange(
        uri,
        (range_.start.line, range_.start.character),
        (range_.end.line, range_.end.character),
    )
    versioned = ls.has_client("workspace", "workspace_edit", "document_changes")
    work = partial(actions, checked, place, params.context.only, versioned=versioned)
    return await ls.schedule.beside(work)


async def _completion(ls: Server, params: types.CompletionParams) -> types.CompletionList:
    uri = params.text_document.uri
    snapshot = ls.documents.snapshot(ls.documents.owner(uri))
    place = params.position.line, params.position.character

    def found(snapshot: Snapshot) -> list[types.CompletionItem]:
        inspector = ls.checker.inspector_of(snapshot)
        return [] if inspector is None else completions(snapshot, inspector, uri, place)

    items = [] if snapshot is None else await ls.schedule.beside(partial(found, snapshot))
    return types.CompletionList(is_incomplete=False, items=items)


_HANDLERS: dict[str, tuple[Callable[..., Any], Any]] = {
    types.INITIALIZE: (_initialize, None),
    types.SHUTDOWN: (_shutdown, None),
    types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS: (_folders_changed, None),
    types.TEXT_DOCUMENT_DID_OPEN: (_text_opened, None),
    types.TEXT_DOCUMENT_DID_CHANGE: (_text_changed, None),
    types.TEXT_DOCUMENT_DID_SAVE: (_text_saved, None),
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
