"""Whatever text an editor opens, the server answers and goes on."""

from __future__ import annotations

import json
import os

import pytest
from language_server import LanguageServer
from served_documents import WRONG, cell, json_text, opened_notebook, server_with


@pytest.fixture(autouse=True)
def _lives_on(server, root, request):
    """Ask for a check after each test: the server must still be there, and right."""
    yield
    uri = (root / f"{request.node.name[:100].replace('/', '_')}.json").as_uri()
    assert [each["code"] for each in server.open_text(uri, "json", json_text(WRONG))] == ["ADA302"]
    assert server.process.poll() is None


HOVER = "textDocument/hover"


def place(uri, line, column):
    return {
        "textDocument": {"uri": uri},
        "position": {"line": line, "character": column},
        "range": {"start": {"line": line, "character": column},
                  "end": {"line": line, "character": column}},
        "context": {"diagnostics": [], "triggerKind": 1},
    }  # fmt: skip


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
from adalora_core.commands.server import checking
checking.OF_A_CHECK.seconds = 1
whole = Inspector.inspect
def inspect(self, raw, name, **options):
    %s
    return whole(self, raw, name, **options)
Inspector.inspect = inspect
"""


@pytest.mark.slow
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
