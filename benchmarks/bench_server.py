"""Measure how long `adalora server` takes from an edit to the findings on it.

A client over standard input and output edits the configuration of a saved adapter, waits for the
findings on the new text, and edits again. The time includes the pause that the server waits for
further edits, and everything between the two processes. A second client sends edits without
waiting, and asks for a description meanwhile: the time of an answer shows that typing waits for
nothing.

    python benchmarks/bench_server.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from bench_contract import saved_adapter

EDITS = 200
TARGET = 50.0
"""Milliseconds from an edit to its findings, the median."""


class Client:
    """A client of one server process."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adalora_core", "server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        params = {"processId": None, "rootUri": folder.as_uri(), "capabilities": {}}
        self.ask(0, "initialize", params)
        self.tell("initialized", {})

    def tell(self, method: str, params: dict[str, Any], **more: Any) -> None:
        """Send a message."""
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params} | more).encode()
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.process.stdin.flush()

    def ask(self, number: int, method: str, params: dict[str, Any]) -> None:
        """Send a request and wait for its answer."""
        self.tell(method, params, id=number)
        while self.next().get("id") != number:
            pass

    def next(self) -> dict[str, Any]:
        """Return the next message of the server."""
        stream = self.process.stdout
        assert stream is not None  # noqa: S101 - it is a pipe
        length = 0
        while line := stream.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        message: dict[str, Any] = json.loads(stream.read(length))
        return message

    def wait_for(self, version: int) -> None:
        """Wait until the findings on a version are there."""
        while True:
            message = self.next()
            is_about_findings = message.get("method") == "textDocument/publishDiagnostics"
            if is_about_findings and message["params"]["version"] == version:
                return


def main() -> None:
    """Measure and print the table; exit with 1 if the target is missed."""
    missed = False
    print(f"{'milliseconds':<32}{'median':>8}{'95 %':>8}{'most':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for wrong in (False, True):
            found = _edits(Path(folder), wrong=wrong)
            missed |= statistics.median(found) > TARGET
            _row(f"edit to findings, {'wrong' if wrong else 'right'} file", found)
        _row("answer while edits pour in", _answers(Path(folder)))
    print(f"target of the median of an edit: {TARGET:g}")
    sys.exit(missed)


def _opened(folder: Path, *, wrong: bool) -> tuple[Client, str, dict[str, Any]]:
    """Start a server with one open file; return what an edit of it sends."""
    client = Client(folder)
    uri = (folder / "adapter_config.json").as_uri()
    text = json.dumps(saved_adapter(1, wrong=wrong), indent=2)
    document = {"uri": uri, "languageId": "json", "version": 1, "text": text}
    client.tell("textDocument/didOpen", {"textDocument": document})
    client.wait_for(1)
    end = {"line": text.count("\n"), "character": 1}
    return client, uri, {"range": {"start": end, "end": end}, "text": "\n"}


def _edits(folder: Path, *, wrong: bool) -> list[float]:
    """Return the time of each edit, when the next one waits for its findings."""
    client, uri, change = _opened(folder, wrong=wrong)
    times = []
    for version in range(2, EDITS + 2):
        began = perf_counter()
        _edit(client, uri, change, version)
        client.wait_for(version)
        times.append(1000 * (perf_counter() - began))
    client.process.kill()
    return times


def _answers(folder: Path) -> list[float]:
    """Return the time of each answer that needs no check, between edits that wait for nothing."""
    client, uri, change = _opened(folder, wrong=True)
    nowhere = {
        "textDocument": {"uri": "file:///none.json"},
        "position": {"line": 0, "character": 0},
    }
    times = []
    for version in range(2, EDITS + 2):
        for _ in range(5):
            _edit(client, uri, change, version)
        began = perf_counter()
        client.ask(version, "textDocument/hover", nowhere)
        times.append(1000 * (perf_counter() - began))
    client.process.kill()
    return times


def _edit(client: Client, uri: str, change: dict[str, Any], version: int) -> None:
    document = {"uri": uri, "version": version}
    params = {"textDocument": document, "contentChanges": [change]}
    client.tell("textDocument/didChange", params)


def _row(title: str, times: list[float]) -> None:
    """Print one line of the table."""
    high = statistics.quantiles(times, n=20)[-1]
    print(f"{title:<32}{statistics.median(times):>8.1f}{high:>8.1f}{max(times):>8.1f}")


if __name__ == "__main__":
    main()
