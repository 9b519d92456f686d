"""Documents for the tests of `adalora server`, and how it is started."""

from __future__ import annotations

import json
import sys

from adalora_core.config.rules.base import SOUND

COMMAND = (sys.executable, "-m", "adalora_core", "server")
_WITH = """
import sys
from adalora_core.commands.server import handlers
handlers.PROGRAM = f"exec({sys.argv[1]!r}, {{}}); {handlers.PROGRAM}"
from adalora_core.commands.cli import main
sys.exit(main(["server"]))
"""


def server_with(code):
    """Return the command of a server whose worker runs some code first."""
    return [sys.executable, "-c", _WITH, code]


WRONG = SOUND | {"init_r": 8, "target_r": 8}
"""A configuration with one error, ADA302."""


def json_text(values):
    """Return a configuration as people write it."""
    return json.dumps(values, indent=2) + "\n"


def python_text(values):
    """Return a script with a configuration."""
    arguments = "".join(
        f"    {name}={value!r},\n" for name, value in values.items() if name != "peft_type"
    )
    return f"from peft import AdaLoraConfig\n\nconfig = AdaLoraConfig(\n{arguments})\n"


def line_of(text, part):
    """Return the number of the line that holds a part of a text, from 0."""
    return next(number for number, line in enumerate(text.split("\n")) if part in line)


def applied(text, edits):
    """Return a text with the edits of an answer; columns count characters."""
    lines = text.split("\n")
    starts = [sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines))]
    for edit in sorted(edits, key=lambda edit: -edit["range"]["start"]["line"]):
        start, end = (
            starts[edit["range"][at]["line"]] + edit["range"][at]["character"]
            for at in ("start", "end")
        )
        text = text[:start] + edit["newText"] + text[end:]
    return text


def cell(uri, text, language="python"):
    """Return the two parts of a cell of a notebook: its entry and its text."""
    return (
        {"kind": 2, "document": uri},
        {"uri": uri, "languageId": language, "version": 1, "text": text},
    )


def opened_notebook(uri, *cells):
    """Return the parameters that open a notebook."""
    return {
        "notebookDocument": {
            "uri": uri,
            "notebookType": "jupyter-notebook",
            "version": 1,
            "metadata": {"language_info": {"name": "python"}},
            "cells": [entry for entry, _ in cells],
        },
        "cellTextDocuments": [text for _, text in cells],
    }
