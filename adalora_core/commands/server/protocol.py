"""Speak the protocol: read messages, keep the documents, and survive what is malformed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, BinaryIO

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol, lsp_method

if TYPE_CHECKING:
    from collections.abc import Generator

LARGEST_MESSAGE = 64 << 20
"""Bytes; a longer message is passed over."""
_LONGEST_HEADER = 4096
_LOG = logging.getLogger(__name__)


class Messages:
    """Standard input, whose messages have a largest size.

    Args:
        stream: the stream of bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readline(self) -> bytes:
        """Return a line of a header, or a part of a line that is too long."""
        return self._stream.readline(_LONGEST_HEADER)

    def read(self, size: int) -> bytes:
        """Return the bytes of a message; of one that is too long, a message of nothing."""
        if size <= LARGEST_MESSAGE:
            return self._stream.read(size)
        _LOG.error("a message of %d bytes is passed over", size)
        while size > 0 and (chunk := self._stream.read(min(size, LARGEST_MESSAGE))):
            size -= len(chunk)
        return b"{}"


class Protocol(LanguageServerProtocol):
    """The protocol of pygls without its copies of the documents, which the server keeps itself.

    pygls splits lines at other characters than the protocol does, and takes the time of a whole
    text for each edit.
    """

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Return a message as an object; answer a request that cannot be one.

        Raises:
            JsonRpcException: the message is not as the protocol has it.
        """
        try:
            return super().structure_message(data)
        except JsonRpcException as error:
            number = data.get("id")
            if "method" in data and isinstance(number, (int, str)):
                self._send_response(number, None, error.to_response_error())
            raise

    def _hand_on(self, method: str, params: Any) -> Generator[Any, Any, None]:
        yield self.fm.features[method], (params,), None

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(
        self, params: types.DidOpenTextDocumentParams
    ) -> Generator[Any, Any, None]:
        """Hand on that a text document is open."""
        yield from self._hand_on(types.TEXT_DOCUMENT_DID_OPEN, params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(
        self, params: types.DidChangeTextDocumentParams
    ) -> Generator[Any, Any, None]:
        """Hand on the edits of a text document."""
        yield from self._hand_on(types.TEXT_DOCUMENT_DID_CHANGE, params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(
        self, params: types.DidCloseTextDocumentParams
    ) -> Generator[Any, Any, None]:
        """Hand on that a text document is closed."""
        yield from self._hand_on(types.TEXT_DOCUMENT_DID_CLOSE, params)

    @lsp_method(types.NOTEBOOK_DOCUMENT_DID_OPEN)
    def lsp_notebook_document__did_open(
        self, params: types.DidOpenNotebookDocumentParams
    ) -> Generator[Any, Any, None]:
        """Hand on that a notebook is open."""
        yield from self._hand_on(types.NOTEBOOK_DOCUMENT_DID_OPEN, params)

    @lsp_method(types.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def lsp_notebook_document__did_change(
        self, params: types.DidChangeNotebookDocumentParams
    ) -> Generator[Any, Any, None]:
        """Hand on the edits of a notebook."""
        yield from self._hand_on(types.NOTEBOOK_DOCUMENT_DID_CHANGE, params)

    @lsp_method(types.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def lsp_notebook_document__did_close(
        self, params: types.DidCloseNotebookDocumentParams
    ) -> Generator[Any, Any, None]:
        """Hand on that a notebook is closed."""
        yield from self._hand_on(types.NOTEBOOK_DOCUMENT_DID_CLOSE, params)
