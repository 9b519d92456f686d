"""Typing never waits for a check, and checks never pile up: each is of the newest text.

Checks are held up and counted, so that no assertion depends on a clock.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest
from language_server import LanguageServer
from served_documents import WRONG, json_text, server_with

from adalora_core.config.rules.base import SOUND

HELD_UP = """
import time
from pathlib import Path
from adalora_core.checker.pipeline.inspection import Inspector
folder = Path({folder!r})
whole = Inspector.inspect
def inspect(self, raw, name, **options):
    with (folder / "checks").open("a") as log:
        log.write(Path(name).name + "\\n")
    while not (folder / "open").exists():
        time.sleep(0.01)
    return whole(self, raw, name, **options)
Inspector.inspect = inspect
"""


class Gate:
    """Holds up every check until it is opened, and counts them."""

    def __init__(self, folder):
        self.folder = folder

    def open(self):
        (self.folder / "open").touch()

    def close(self):
        (self.folder / "open").unlink()

    def checks(self):
        """Return the number of checks of each file."""
        log = self.folder / "checks"
        return Counter(log.read_text().split()) if log.exists() else Counter()


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


@pytest.fixture
def held_up(gate, root):
    command = server_with(HELD_UP.format(folder=str(gate.folder)))
    with LanguageServer(command, root) as server:
        yield server


def opened(server, uri, text):
    document = {"uri": uri, "languageId": "json", "version": 1, "text": text}
    server.notify("textDocument/didOpen", {"textDocument": document})


def wait_until_read(server):
    """Wait until the server has handled every message before this one."""
    server.answer("no/such/method", {})


def appended(line, text):
    at = {"line": line, "character": 0}
    return {"range": {"start": at, "end": at}, "text": text}


def test_edits_are_read_while_a_check_runs_and_the_last_one_is_checked(held_up, gate, root):
    uri = (root / "typed.json").as_uri()
    text = json_text(WRONG)
    opened(held_up, uri, text)
    while not gate.checks():
        wait_until_read(held_up)
    last = text.count("\n")
    for version in range(2, 202):
        held_up.change(uri, version, appended(last, " "))
    # Its answer shows that all edits were taken while the first check is still held up.
    wait_until_read(held_up)
    assert gate.checks() == {"typed.json": 1}
    assert uri not in held_up.published
    gate.open()
    (found,) = held_up.diagnostics(uri)
    assert found["code"] == "ADA302"
    assert held_up.published[uri][0]["version"] == 201  # nothing about an old text
    assert gate.checks() == {"typed.json": 2}


def test_each_waiting_document_is_checked_once_and_a_closed_one_never(held_up, gate, root):
    uris = [(root / f"{number}.json").as_uri() for number in range(30)]
    for uri in uris:
        opened(held_up, uri, json_text(WRONG))
    while not gate.checks():
        wait_until_read(held_up)
    (first,) = gate.checks()
    for version in range(2, 12):
        for uri in uris:
            held_up.change(uri, version, {"text": json_text(SOUND)})
    closed = [uri for uri in uris if not uri.endswith(f"/{first}")][:20]
    for uri in closed:
        held_up.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    wait_until_read(held_up)
    gate.open()
    still_open = [uri for uri in uris if uri not in closed]
    for uri in still_open:
        assert held_up.diagnostics(uri, version=11) == []
    names = {uri.rpartition("/")[2] for uri in still_open}
    assert gate.checks() == dict.fromkeys(names, 1) | {first: 2}
    assert all(len(held_up.published[uri]) == 1 for uri in closed)  # that it has no findings


def test_request_about_the_newest_text_waits_for_one_check(held_up, gate, root):
    gate.open()
    uri = (root / "asked.json").as_uri()
    held_up.open_text(uri, "json", json_text(SOUND))
    gate.close()
    held_up.change(uri, 2, {"text": json_text(WRONG)})
    params = {"textDocument": {"uri": uri}, "position": {"line": 6, "character": 13}}
    for number in range(900, 950):
        held_up.send(
            {"jsonrpc": "2.0", "id": number, "method": "textDocument/hover", "params": params}
        )
    wait_until_read(held_up)
    gate.open()
    shown = held_up.request("textDocument/hover", params)
    assert "ADA302" in shown["contents"]["value"]
    assert gate.checks() == {"asked.json": 2}


@pytest.mark.slow
@pytest.mark.parametrize("size", [3_900_000, 5_000_000])
def test_large_file_is_edited_like_a_small_one(held_up, gate, root, size):
    uri = (root / f"{size}.json").as_uri()
    names = [f"module_{'x' * 90}_{number}" for number in range(size // 108)]
    text = json.dumps(WRONG | {"target_modules": names}, indent=1)
    assert abs(len(text) - size) < size // 100
    opened(held_up, uri, text)
    while not gate.checks():
        wait_until_read(held_up)
    for version in range(2, 202):
        held_up.change(uri, version, appended(version, " "))
    wait_until_read(held_up)
    assert gate.checks() == {f"{size}.json": 1}
    gate.open()
    expected = "ADA302" if size < 1 << 22 else "ADA005"
    assert expected in [each["code"] for each in held_up.diagnostics(uri, version=201)]
    assert gate.checks() == {f"{size}.json": 2}
