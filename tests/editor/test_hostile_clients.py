"""Whatever a client sends, the server answers or logs, and goes on."""

from __future__ import annotations

import json
import os

import pytest
from language_server import LanguageServer
from served_documents import COMMAND, WRONG, cell, json_text, opened_notebook, server_with


@pytest.fixture(autouse=True)
def _lives_on(server, root, request):
    """Ask for a check after each test: the server must still be there, and right."""
    yield
    uri = (root / f"{request.node.name[:100].replace('/', '_')}.json").as_uri()
    assert [each["code"] for each in server.open_text(uri, "json", json_text(WRONG))] == ["ADA302"]
    assert server.process.poll() is None


DID_CHANGE = "textDocument/didChange"
HOVER = "textDocument/hover"

MALFORMED = {
    "no-json": b"{",
    "no-object": b"[]",
    "null": b"null",
    "number": b"1e999",
    "no-protocol": b"{}",
    "other-protocol": b'{"jsonrpc": "1.0", "method": "x", "params": {}}',
    "no-method": b'{"jsonrpc": "2.0"}',
    "no-params": b'{"jsonrpc": "2.0", "method": "textDocument/didOpen"}',
    "method-of-another-type": b'{"jsonrpc": "2.0", "method": [], "params": {}}',
    "unhashable-method": b'{"jsonrpc": "2.0", "id": 1.5, "method": {"a": 1}}',
    "answer-to-nothing": b'{"jsonrpc": "2.0", "id": 99, "result": 5}',
    "error-to-nothing": b'{"jsonrpc": "2.0", "id": 98, "error": {"code": 1, "message": "x"}}',
    "cancel-of-nothing": b'{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 77}}',
    "not-utf-8": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "nested-message": b'{"jsonrpc": "2.0", "method": "x", "params": {"jsonrpc": "2.0", "id": {}}}',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_message_is_passed_over(server, name):
    server.send_bytes(MALFORMED[name])


@pytest.mark.parametrize(
    "header", [b"Content-Length: x\r\n\r\n", b"\r\n\r\n", b"Nonsense\r\n", b"x" * 10_000 + b"\r\n"]
)
def test_malformed_header_is_passed_over(server, header):
    server.send_bytes(b"", header)


@pytest.mark.parametrize(
    "params",
    [
        {},
        None,
        [],
        {"textDocument": None, "position": {"line": 0, "character": 0}},
        {"textDocument": {"uri": "file:///a"}, "position": {"line": "x", "character": 0}},
        {"textDocument": {"uri": "file:///a"}, "position": None},
    ],
)
def test_request_of_wrong_types_gets_an_error(server, params):
    assert "error" in server.answer(HOVER, params)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("workspace/executeCommand", {"command": "unknown"}),
        ("textDocument/rename", {}),
        ("no/such/method", {}),
    ],
)
def test_unknown_request_gets_an_error(server, method, params):
    assert "error" in server.answer(method, params)


URIS = [
    "", "x", "file://", "file:///", "file:///%00.json", "file:///a%00b/c.json", "file://[.json",
    "file://host/share/a.json", "file:///" + "a/" * 3000 + "b.json", "file:///C:/a.json",
    "file:///proc/self/mem.json", "file:///dev/stdin.json", "file:///%ff%fe.json",
    "file:///..%2f..%2fetc/a.json", "file:///\ud800.json", "http://example.org/a.json",
    "untitled:x", "vscode-notebook-cell:/a.ipynb#1", "file:///" + "n" * 5000 + ".json",
]  # fmt: skip


@pytest.mark.parametrize("uri", URIS, ids=range(len(URIS)))
def test_any_name_of_a_document_can_be_opened_asked_and_closed(server, uri):
    document = {"uri": uri, "languageId": "json", "version": 1, "text": json_text(WRONG)}
    server.notify("textDocument/didOpen", {"textDocument": document})
    assert "result" in server.answer(HOVER, place(uri, 2, 4))
    server.change(uri, 2, {"text": "{"})
    server.notify("textDocument/didSave", {"textDocument": {"uri": uri}})
    server.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


def place(uri, line, column):
    return {
        "textDocument": {"uri": uri},
        "position": {"line": line, "character": column},
        "range": {"start": {"line": line, "character": column},
                  "end": {"line": line, "character": column}},
        "context": {"diagnostics": [], "triggerKind": 1},
    }  # fmt: skip


@pytest.mark.parametrize("method", ["hover", "completion", "codeAction", "codeLens"])
def test_unknown_document_has_nothing(server, method):
    found = server.request(f"textDocument/{method}", place("file:///unknown.json", 1, 1))
    assert not (found or {}) or not found.get("items", True)


def test_changes_of_unknown_documents_are_passed_over(server):
    uri = "file:///unknown.json"
    server.change(uri, 2, {"text": "x"})
    server.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    notebook = {"uri": "file:///unknown.ipynb", "version": 2}
    server.notify(
        "notebookDocument/didChange", {"notebookDocument": notebook, "change": {"metadata": {}}}
    )
    server.notify(
        "notebookDocument/didClose",
        {"notebookDocument": {"uri": "file:///unknown.ipynb"}, "cellTextDocuments": []},
    )


@pytest.mark.parametrize("method", ["hover", "completion"])
@pytest.mark.parametrize("at", [(10**9, 10**9), (0, 10**9), (10**9, 0), (-1, -5), (2**31, 2**40)])
def test_place_out_of_range_is_answered(server, new_uri, method, at):
    uri = new_uri()
    server.open_text(uri, "json", json_text(WRONG))
    server.answer(f"textDocument/{method}", place(uri, *at))


def test_edits_out_of_range_end_at_the_end_of_the_text(server, new_uri):
    uri = new_uri()
    server.open_text(uri, "json", json_text(WRONG))
    far = {"line": 10**9, "character": 10**9}
    for number, (start, end) in enumerate([(far, far), ({"line": -3, "character": -3}, far)]):
        server.change(uri, number, {"range": {"start": start, "end": end}, "text": ""})
    server.change(uri, 9, {"range": {"start": far, "end": {"line": 0, "character": 0}},
                           "text": json_text(WRONG)})  # fmt: skip
    assert [each["code"] for each in server.diagnostics(uri, version=9)] == ["ADA302"]


DOCUMENTS = {
    "surrogate": (".json", '{"peft_type": "ADALORA", "a": "\ud800"}'),
    "surrogate-in-python": (".py", "from peft import AdaLoraConfig\nAdaLoraConfig(bias='\udfff')"),
    "surrogate-at-the-start": (".yaml", "\ud83dpeft_type: ADALORA"),
    "nul": (".json", '{"peft_type": "ADALORA", "a": "\0"}'),
    "deep-json": (".json", '{"peft_type": "ADALORA", "a": ' + "[" * 50_000),
    "deep-yaml": (".yaml", "peft_type: ADALORA\na: " + "[" * 20_000),
    "deep-python": (".py", "import peft\npeft.AdaLoraConfig(" + "(" * 20_000),
    "deep-but-whole": (".py", "AdaLoraConfig(init_r=" + "-" * 5_000 + "1)"),
    "long-number": (".json", '{"peft_type": "ADALORA", "init_r": ' + "9" * 10_000 + "}"),
    "aliases": (".yaml", "peft_type: ADALORA\na: &a [x]\n" + "b: [" + "*a, " * 5_000 + "]"),
    "line-ends": (".json", "\r\n\r\r\n" * 5_000 + '{"peft_type": "ADALORA"}'),
    "coding": (".py", "# coding: punycode\nAdaLoraConfig(init_r=8)"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_hostile_document_is_checked_and_asked(server, new_uri, name):
    suffix, text = DOCUMENTS[name]
    uri = new_uri(suffix)
    assert server.open_text(uri, "any", text)
    for method in ("hover", "completion", "codeAction", "codeLens"):
        answer = server.answer(f"textDocument/{method}", place(uri, 0, 20))
        assert "result" in answer, answer


@pytest.mark.parametrize(
    "cells",
    [
        ["AdaLoraConfig(init_r='\ud800')"],
        ["from peft import AdaLoraConfig\nAdaLoraConfig(init_r=", "1)"],
        ["%%bash\nadalora", "\0AdaLoraConfig()"],
        [""],
    ],
)
def test_hostile_notebook_is_checked(server, new_uri, cells):
    uri = new_uri(".ipynb")
    texts = [cell(f"{uri}#{number}", text) for number, text in enumerate(cells)]
    server.notify("notebookDocument/didOpen", opened_notebook(uri, *texts))
    server.diagnostics(f"{uri}#0")
    server.request(HOVER, place(f"{uri}#0", 0, 3))


def test_notebook_whose_structure_contradicts_itself(server, new_uri):
    uri = new_uri(".ipynb")
    opened = opened_notebook(uri, cell(f"{uri}#0", "adalora = 1"))
    opened["notebookDocument"]["cells"].append({"kind": 2, "document": f"{uri}#missing"})
    opened["notebookDocument"]["metadata"] = {"language_info": 5, "kernelspec": [None]}
    server.notify("notebookDocument/didOpen", opened)
    assert server.diagnostics(f"{uri}#0") == []
    change = {
        "cells": {
            "structure": {
                "array": {"start": 10**6, "deleteCount": 10**6}, "didClose": [{"uri": "x"}]
            },
            "textContent": [{"document": {"uri": "y", "version": 1}, "changes": [{"text": "z"}]}],
            "data": [{"kind": 2, "document": "w"}],
        }
    }  # fmt: skip
    server.notify(
        "notebookDocument/didChange",
        {"notebookDocument": {"uri": uri, "version": 2}, "change": change},
    )
    server.request(HOVER, place(f"{uri}#0", 0, 3))


def test_message_of_impossible_length_is_read_to_its_end(root):
    with LanguageServer(COMMAND, root) as server:
        server.send_bytes(b"no such length", b"Content-Length: 1%s\r\n\r\n" % (b"0" * 30))
        assert server.hang_up() == 1


def test_messages_before_the_first_one_are_refused_or_dropped(root):
    class Impatient(LanguageServer):
        def request(self, method, params):
            if method == "initialize":
                assert "error" in self.answer(HOVER, {})
                answer = self.answer(HOVER, place("file:///a.json", 0, 0))
                assert answer["error"]["code"] == -32002
                self.change("untitled:a", 1, {"text": "x"})
            return super().request(method, params)

    with Impatient(COMMAND, root) as impatient:
        assert impatient.open_text("untitled:a", "json", json_text(WRONG))
        again = impatient.answer("initialize", {"processId": None, "capabilities": {}})
        assert again["error"]["code"] == -32600


CRASH = """
from adalora_core.checker.pipeline.inspection import Inspector
whole = Inspector.inspect
def inspect(self, raw, name, **options):
    if b"crash" in raw:
        raise RuntimeError("a \\x1b[2J fault")
    print("printed by a check")
    return whole(self, raw, name, **options)
Inspector.inspect = inspect
"""


BEYOND = {
    "memory": "if b'hostile' in raw: bytearray(1 << 30)",
    "processor": "while b'hostile' in raw: pass",
    "crash": "if b'hostile' in raw: os.abort()",
}
IN_A_CHECK = """
import os
from adalora_core.checker.pipeline.inspection import Inspector
from adalora_core.commands.server import worker
worker.OF_A_CHECK.seconds = 1
whole = Inspector.inspect
def inspect(self, raw, name, **options):
    %s
    return whole(self, raw, name, **options)
Inspector.inspect = inspect
"""


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
@pytest.mark.parametrize("name", BEYOND)
def test_document_beyond_a_bound_has_one_finding_and_the_others_are_checked(root, name):
    other, uri = (root / "a.json").as_uri(), (root / "hostile.json").as_uri()
    with LanguageServer(server_with(IN_A_CHECK % BEYOND[name]), root) as server:
        assert [each["code"] for each in server.open_text(other, "json", json_text(WRONG))]
        text = json_text(WRONG | {"revision": "hostile"})
        assert [each["code"] for each in server.open_text(uri, "json", text)] == ["ADA013"]
        assert server.answer(HOVER, place(uri, 0, 3))["result"] is None
        assert server.request(HOVER, place(other, 6, 5)) is not None
        server.change(uri, 2, {"text": json_text(WRONG)})
        assert [each["code"] for each in server.diagnostics(uri, version=2)] == ["ADA302"]


def test_crash_of_a_check_is_shown_once_and_the_next_check_runs(root, tmp_path):
    log = tmp_path / "log"
    with LanguageServer(server_with(CRASH), root, log=log) as server:
        uri = (root / "crash.json").as_uri()
        assert server.open_text(uri, "json", json_text(WRONG | {"revision": "crash"})) == []
        server.change(uri, 2, {"text": json.dumps(WRONG | {"revision": "crash"})})
        assert server.diagnostics(uri, version=2) == []
        server.change(uri, 3, {"text": json_text(WRONG)})
        assert [each["code"] for each in server.diagnostics(uri, version=3)] == ["ADA302"]
        (message,) = server.shown
    assert r"RuntimeError('a \x1b[2J fault')" in message
    assert "please report it" in message
    assert "Traceback" in log.read_text()
    assert "printed by a check" in log.read_text()
