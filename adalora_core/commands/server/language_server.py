"""Answer a client: documents in; diagnostics, descriptions, fixes and proposals out."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from adalora_core.commands.server.checking import Checker
from adalora_core.commands.server.documents import Documents, path_of
from adalora_core.commands.server.protocol import Protocol
from adalora_core.commands.server.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adalora_core.commands.server.checked import CheckedSnapshot
    from adalora_core.commands.server.text import Encoding

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
            protocol_cls=Protocol,
        )
        self.documents = Documents()
        self.checker = Checker()
        self.schedule = Schedule(self.documents.snapshot, self.checker.check, self._publish)
        self.was_shut_down = False
        self._shown: set[str] = set()

    def begin(self) -> None:
        """Take over what the client has asked for in its first message."""
        # The name of a member of an enumeration, or the word itself.
        agreed = self.workspace.position_encoding
        self.documents.encoding = cast("Encoding", getattr(agreed, "value", agreed))
        self.checker.with_related = self.has_client(
            "text_document", "publish_diagnostics", "related_information"
        )
        self.note_folders()

    def note_folders(self) -> None:
        """Take over the folders that the client has open."""
        uris = [*self.workspace.folders] or [self.workspace.root_uri or ""]
        self.checker.open_folders(tuple(path for uri in uris if (path := path_of(uri))))

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

    def clear(self, uris: Iterable[str]) -> None:
        """Remove the diagnostics of texts that are closed."""
        for uri in uris:
            self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))

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
