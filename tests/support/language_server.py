"""A language server over standard input and output, asked as an editor asks it."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

LONGEST_WAIT = 600
"""Seconds; node starts in one, on a loaded machine in more."""

CAPABILITIES = {
    "textDocument": {
        "hover": {"contentFormat": ["markdown"]},
        "completion": {
            "completionItem": {"documentationFormat": ["markdown"], "snippetSupport": True}
        },
        "publishDiagnostics": {"relatedInformation": False},
    },
    "workspace": {"configuration": True},
}


class LanguageServer:
    """One server process; a context manager that ends it.

    Args:
        command: how it is started.
        root: the folder that the editor has open.
        settings: what it answers when the server asks, by section.
        options: initialization options.
    """

    def __init__(
        self, command: Sequence[str], root: Path, settings: dict[str, Any], options: dict[str, Any]
    ) -> None:
        self.settings = settings
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._number = 0
        self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": root.as_uri(),
                "capabilities": CAPABILITIES,
                "initializationOptions": options,
            },
        )
        self.notify("initialized", {})
        self.notify("workspace/didChangeConfiguration", {"settings": settings})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def open(self, path: Path, language: str) -> list[dict[str, Any]]:
        """Open a file and return its diagnostics."""
        document = {"uri": path.as_uri(), "languageId": language, "version": 1}
        self.notify("textDocument/didOpen", {"textDocument": document | {"text": path.read_text()}})
        while True:
            message = self._next()
            if message.get("method") == "textDocument/publishDiagnostics":
                if message["params"]["uri"] == path.as_uri():
                    return message["params"]["diagnostics"]
            else:
                self._answer(message)

    def at(self, method: str, path: Path, line: int, column: int) -> Any:
        """Ask something about a place of an open file; line and column count from 0."""
        place = {
            "textDocument": {"uri": path.as_uri()},
            "position": {"line": line, "character": column},
        }
        return self.request(f"textDocument/{method}", place)

    def request(self, method: str, params: dict[str, Any]) -> Any:
        """Ask and wait for the answer."""
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        while True:
            message = self._next()
            if message.get("id") == self._number and "method" not in message:
                assert "error" not in message, message
                return message["result"]
            self._answer(message)

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Say something that has no answer."""
        self._send({"method": method, "params": params})

    def _answer(self, message: dict[str, Any]) -> None:
        """Answer a question of the server's; other messages need none."""
        if "id" not in message or "method" not in message:
            return
        result: Any = None
        if message["method"] == "workspace/configuration":
            result = [
                self.settings.get(item.get("section", "")) for item in message["params"]["items"]
            ]
        self._send({"id": message["id"], "result": result})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _next(self) -> dict[str, Any]:
        message = self._messages.get(timeout=LONGEST_WAIT)
        assert message is not None, "the server has ended"
        return message

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while line := stream.readline():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
                while stream.readline().strip():
                    pass
                self._messages.put(json.loads(stream.read(length)))
        self._messages.put(None)
