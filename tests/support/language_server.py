"""A language server over standard input and output, asked as an editor asks it."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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
        capabilities: what the editor can do, besides `CAPABILITIES`.
        log: the file that takes the server's standard error; None: nowhere.
    """

    def __init__(
        self,
        command: Sequence[str],
        root: Path,
        settings: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        capabilities: dict[str, Any] | None = None,
        log: Path | None = None,
    ) -> None:
        self.settings = settings or {}
        self.shown: list[str] = []
        """The messages that the server has shown to the user."""
        self.registered: list[dict[str, Any]] = []
        """What the server has asked the editor to report."""
        self.published: dict[str, list[dict[str, Any]]] = {}
        """What the server has published on each document, the newest last."""
        with contextlib.ExitStack() as stack:
            errors: Any = subprocess.DEVNULL
            if log is not None:
                errors = stack.enter_context(log.open("wb"))
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._number = 0
        self.initialized = self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": root.as_uri(),
                "capabilities": CAPABILITIES | (capabilities or {}),
                "initializationOptions": options or {},
            },
        )
        self.notify("initialized", {})
        self.notify("workspace/didChangeConfiguration", {"settings": self.settings})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def open(self, path: Path, language: str) -> list[dict[str, Any]]:
        """Open a file and return its diagnostics."""
        return self.open_text(path.as_uri(), language, path.read_text())

    def open_text(self, uri: str, language: str, text: str) -> list[dict[str, Any]]:
        """Open a document and return its diagnostics."""
        document = {"uri": uri, "languageId": language, "version": 1}
        before = len(self.published.get(uri, ()))
        self.notify("textDocument/didOpen", {"textDocument": document | {"text": text}})
        return self.diagnostics(uri, after=before)

    def change(self, uri: str, version: int, *changes: dict[str, Any]) -> None:
        """Edit a document."""
        self.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": uri, "version": version}, "contentChanges": changes},
        )

    def diagnostics(
        self, uri: str, *, after: int = 0, version: int | None = None
    ) -> list[dict[str, Any]]:
        """Wait for diagnostics of a document.

        Args:
            uri: the document.
            after: how many publications about it are not waited for.
            version: the version that they are about; None: any.
        """
        while True:
            for params in self.published.get(uri, [])[after:]:
                if version is None or params.get("version") == version:
                    return params["diagnostics"]
            self._take(self._next())

    def at(self, method: str, path: Path | str, line: int, column: int) -> Any:
        """Ask something about a place of an open file; line and column count from 0."""
        place = {
            "textDocument": {"uri": path if isinstance(path, str) else path.as_uri()},
            "position": {"line": line, "character": column},
        }
        return self.request(f"textDocument/{method}", place)

    def request(self, method: str, params: Any) -> Any:
        """Ask and wait for the answer."""
        answer = self.answer(method, params)
        assert "error" not in answer, answer
        return answer["result"]

    def answer(self, method: str, params: Any) -> dict[str, Any]:
        """Ask and wait for the answer, which may be an error."""
        self._number += 1
        self.send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        while True:
            message = self._next()
            if message.get("id") == self._number and "method" not in message:
                return message
            self._take(message)

    def notify(self, method: str, params: Any) -> None:
        """Say something that has no answer."""
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def send(self, message: Any) -> None:
        """Send a message, right or wrong."""
        self.send_bytes(json.dumps(message).encode())

    def send_bytes(self, body: bytes, header: bytes | None = None) -> None:
        """Send the bytes of a message, below another header than its own if that is given."""
        assert self.process.stdin is not None
        self.process.stdin.write(header or b"Content-Length: %d\r\n\r\n" % len(body))
        self.process.stdin.write(body)
        self.process.stdin.flush()

    def hang_up(self) -> int:
        """End the conversation without a word, and return the server's exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None
        return self.process.wait(timeout=LONGEST_WAIT)

    def _take(self, message: dict[str, Any]) -> None:
        """Note a message of the server's, and answer if it is a question."""
        if message.get("method") == "textDocument/publishDiagnostics":
            params = message["params"]
            self.published.setdefault(params["uri"], []).append(params)
        elif message.get("method") == "window/showMessage":
            self.shown.append(message["params"]["message"])
        if "id" not in message or "method" not in message:
            return
        if message["method"] == "client/registerCapability":
            self.registered.append(message["params"])
        result: Any = None
        if message["method"] == "workspace/configuration":
            result = [
                self.settings.get(item.get("section", "")) for item in message["params"]["items"]
            ]
        self.send({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def _next(self) -> dict[str, Any]:
        message = self._messages.get(timeout=LONGEST_WAIT)
        assert message is not None, "the server has ended"
        return message

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while line := stream.readline():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
                while stream.readline().strip():
                    pass
                self._messages.put(json.loads(stream.read(length)))
        self._messages.put(None)
