"""Handle one hostile input after the other, in a process of its own.

A request is a line of JSON: the format, and the folder that holds the input. The answer is a line
of JSON as well: what is wrong, or null.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import traceback
from typing import Any

ADDRESS_SPACE = 12 << 30
COMMANDS = {
    "json": ["check", "--isolated", "a.json", "-o", "json"],
    "yaml": ["check", "--isolated", "a.yaml"],
    "toml": ["check", "--isolated", "a.toml"],
    "header": ["plan", "a.json", "--weights", "model.safetensors"],
    "policy": ["check", "--isolated", "a.json", "--policy", "p.json"],
    "pyproject": ["check", "a.json"],
}
NOT_CHECKED = "not checked: "
"""The words of the command about a file whose check has failed with an exception."""


def problem_of(format_: str) -> str | None:
    """Handle the input in the working folder; return what is wrong, or None."""
    try:
        return _command(COMMANDS[format_]) if format_ in COMMANDS else _load(format_)
    except Exception:  # noqa: BLE001 - every exception is a finding
        return traceback.format_exc()


def _command(arguments: list[str]) -> str | None:
    from adalora_core.commands.cli import main

    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            code: Any = main(arguments)
        except SystemExit as error:
            code = error.code
    shown.flush()
    text = shown.buffer.getvalue().decode("utf-8", "replace")  # type: ignore[attr-defined]
    if code not in {0, 1, 2} or NOT_CHECKED in text:
        return f"exit code {code}: {text[-2000:]}"
    return None


def _load(format_: str) -> str | None:
    from torch import nn

    from adalora_core import AdaLoraModel
    from adalora_core.floor.errors import AdaLoraError

    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with contextlib.suppress(AdaLoraError, ValueError, OSError):
        AdaLoraModel.from_pretrained(model, ".", is_trainable=format_ == "state")
    return None


def main() -> None:
    """Answer requests until the input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        format_, folder = json.loads(line)
        os.chdir(folder)
        answers.write(json.dumps(problem_of(format_)) + "\n")


if __name__ == "__main__":
    main()
