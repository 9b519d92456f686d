"""Findings appear while one types, in every format, at the places that the client counts."""

from __future__ import annotations

import json

import pytest
from language_server import LanguageServer
from served_documents import (
    COMMAND,
    WRONG,
    cell,
    json_text,
    line_of,
    opened_notebook,
    python_text,
)

from adalora_core.config.rules.base import SOUND


def codes(found):
    return [each["code"] for each in found]


def marked(text, found):
    """Return the marked part of a text without characters of several units."""
    start, end = found["range"]["start"], found["range"]["end"]
    assert start["line"] == end["line"]
    return text.split("\n")[start["line"]][start["character"] : end["character"]]


TEXTS = {
    "json": (".json", json_text(WRONG)),
    "yaml": (".yaml", "".join(f"{k}: {json.dumps(v)}\n" for k, v in WRONG.items())),
    "toml": (".toml", "".join(f"{k} = {json.dumps(v)}\n" for k, v in WRONG.items())),
    "python": (".py", python_text(WRONG)),
}


@pytest.mark.parametrize("language", TEXTS)
def test_finding_is_marked_at_its_value(server, new_uri, language):
    suffix, text = TEXTS[language]
    (found,) = server.open_text(new_uri(suffix), language, text)
    assert found["code"] == "ADA302"
    assert found["severity"] == 1
    assert found["source"] == "adalora"
    assert found["range"]["start"]["line"] == line_of(text, "init_r")
    assert marked(text, found) == "8"


def test_notebook_as_a_file_is_checked(server, new_uri):
    source = python_text(WRONG).splitlines(keepends=True)
    text = json_text({"cells": [{"cell_type": "code", "source": source}], "metadata": {}})
    (found,) = server.open_text(new_uri(".ipynb"), "json", text)
    assert (found["code"], marked(text, found)) == ("ADA302", "8")


def test_document_without_a_file_has_the_format_of_its_language(server):
    assert codes(server.open_text("untitled:Untitled-1", "json", json_text(WRONG))) == ["ADA302"]
    assert codes(server.open_text("untitled:Untitled-2", "yaml", TEXTS["yaml"][1])) == ["ADA302"]


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"name": "a package", "keywords": ["adalora"]}'),
        (".json", '{"peft_type": "LORA", "r": 8}'),
        (".py", "print('nothing about it'\n"),
        (".json", ""),
    ],
)
def test_document_without_adalora_has_no_findings(server, new_uri, suffix, text):
    assert server.open_text(new_uri(suffix), "any", text) == []


def test_each_edit_is_checked(server, new_uri):
    uri = new_uri()
    text = json_text(SOUND)
    assert server.open_text(uri, "json", text) == []
    line = line_of(text, "init_r")
    start = text.split("\n")[line].index("12")
    at = {
        "start": {"line": line, "character": start},
        "end": {"line": line, "character": start + 2},
    }
    server.change(uri, 2, {"range": at, "text": "8"})
    assert codes(server.diagnostics(uri, version=2)) == ["ADA302"]
    at["end"]["character"] = start + 1
    server.change(uri, 3, {"range": at, "text": "1"}, {"range": at, "text": "12"})
    assert server.diagnostics(uri, version=3) == []
    server.change(uri, 4, {"text": "{"})
    assert server.diagnostics(uri, version=4) == []  # nothing of AdaLoRA is left
    server.change(uri, 5, {"text": '{"peft_type": "ADALORA",'})
    assert codes(server.diagnostics(uri, version=5)) == ["ADA001"]


def test_closed_document_has_no_findings(server, new_uri):
    uri = new_uri()
    assert server.open_text(uri, "json", json_text(WRONG))
    server.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert server.diagnostics(uri, after=1) == []


def test_message_has_the_hint_and_is_one_line(server, new_uri):
    text = json_text(SOUND | {"tar\nget": 1})
    (found,) = server.open_text(new_uri(), "json", text)
    assert r"tar\nget" in found["message"]
    assert "\n" not in found["message"]
    assert "(hint: " in found["message"]


WIDE = json.dumps({"base_model_name_or_path": "é\U0001f600"} | WRONG, ensure_ascii=False)
BEFORE = WIDE[: WIDE.index('8, "target_r"')]
UNITS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


def columns_before(encoding):
    codec, width = UNITS[encoding]
    return len(BEFORE.encode(codec)) // width


@pytest.mark.parametrize("encoding", UNITS)
def test_columns_count_units_of_the_encoding_that_the_client_prefers(encoding, root):
    offered = {"general": {"positionEncodings": [encoding, "utf-16"]}}
    with LanguageServer(COMMAND, root, capabilities=offered) as server:
        assert server.initialized["capabilities"]["positionEncoding"] == encoding
        uri = (root / f"{encoding}.json").as_uri()
        (found,) = server.open_text(uri, "json", WIDE)
        column = columns_before(encoding)
        at = {"start": {"line": 0, "character": column}}
        at["end"] = {"line": 0, "character": column + 1}
        assert found["range"] == at
        # An edit behind the wide characters is read in the same units.
        server.change(uri, 2, {"range": at, "text": "9"})
        assert server.diagnostics(uri, version=2) == []


def test_columns_count_utf_16_where_the_client_offers_nothing(server, new_uri):
    (found,) = server.open_text(new_uri(), "json", WIDE)
    assert found["range"]["start"]["character"] == columns_before("utf-16")


@pytest.mark.parametrize("end", ["\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_move_no_place(server, new_uri, end, mark):
    text = json_text(WRONG | {"revision": "\u2028\x0b\x0c"})
    sent = mark + text.replace("\n", end)
    found = server.open_text(new_uri(), "json", sent)
    found = [each for each in found if each["code"] != "ADA004"]  # the mark itself
    assert codes(found) == ["ADA302"]
    assert found[0]["range"]["start"]["line"] == line_of(text, "init_r")
    assert marked(text, found[0]) == "8"


def test_byte_order_mark_moves_the_columns_of_its_line_only(server, new_uri):
    text = '\ufeff{"init_r": 8, "total_step": 0, "peft_type": "ADALORA"}'
    found = server.open_text(new_uri(), "json", text)
    (step,) = [each for each in found if "total_step" in each["message"]]
    assert marked(text, step) == "0"


def test_declared_encoding_of_a_script_moves_no_column(server, new_uri):
    text = "# coding: latin-1\nname = 'é\u20ac'; " + python_text(WRONG).replace("\n", "", 2)
    text = text.replace("'; from", "'\nfrom").replace("Configconfig", "Config\nconfig")
    text += "# é"
    (found,) = server.open_text(new_uri(".py"), "python", text)
    assert marked(text, found) == "8"


def test_findings_of_a_notebook_are_in_its_cells(server, new_uri):
    uri = new_uri(".ipynb")
    one, two, three = (f"{uri}#{number}" for number in range(3))
    config = "%matplotlib inline\nprint('\U0001f600'); " + python_text(WRONG).split("\n", 2)[2]
    server.notify(
        "notebookDocument/didOpen",
        opened_notebook(uri, cell(one, "from peft import AdaLoraConfig"), cell(two, config)),
    )
    assert server.diagnostics(one) == []
    (found,) = server.diagnostics(two)
    assert found["range"]["start"]["line"] == line_of(config, "init_r")
    assert marked(config, found) == "8"

    # A new first cell, and the configuration is put right.
    entry, text = cell(three, "import peft")
    line = line_of(config, "init_r")
    at = {"start": {"line": line, "character": 11}, "end": {"line": line, "character": 12}}
    change = {
        "cells": {
            "structure": {
                "array": {"start": 0, "deleteCount": 0, "cells": [entry]}, "didOpen": [text]
            },
            "textContent": [
                {"document": {"uri": two, "version": 2}, "changes": [{"range": at, "text": "9"}]}
            ],
        }
    }  # fmt: skip
    server.notify(
        "notebookDocument/didChange",
        {"notebookDocument": {"uri": uri, "version": 2}, "change": change},
    )
    assert server.diagnostics(two, version=2) == []
    assert server.diagnostics(three) == []

    # A removed cell keeps no finding; neither does a closed notebook.
    number = len(server.published[one])
    change = {"cells": {"structure": {"array": {"start": 1, "deleteCount": 1},
                                      "didClose": [{"uri": one}]}}}  # fmt: skip
    server.notify(
        "notebookDocument/didChange",
        {"notebookDocument": {"uri": uri, "version": 3}, "change": change},
    )
    assert server.diagnostics(one, after=number) == []
    number = len(server.published[two])
    server.notify(
        "notebookDocument/didClose",
        {"notebookDocument": {"uri": uri}, "cellTextDocuments": [{"uri": two}, {"uri": three}]},
    )
    assert server.diagnostics(two, after=number) == []
