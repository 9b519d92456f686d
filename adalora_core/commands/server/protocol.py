"""Read the messages of a client, and survive what is malformed."""

from __future__ import annotations

import logging
from typing import Any, BinaryIO

from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol

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
    """The protocol of pygls, which answers every request."""

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
