"""Pages whose files are written and whose sessions are run, so that they show what is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from adalora_core.commands.cli import main

FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_sessions(path: Path, capsys: Any) -> int:
    """Run each `$ adalora ...` of a page in the working folder and compare what is printed.

    A block that starts with `# name.suffix` is first written to that file.

    Returns:
        How many commands were run.
    """
    commands = 0
    for language, text in FENCED.findall(path.read_text("utf-8")):
        first, _, rest = text.partition("\n")
        if first.startswith("# ") and "." in first:
            # The comment stays in YAML: positions count it.
            Path(first[2:]).write_text(text if language == "yaml" else rest, encoding="utf-8")
        if language != "console":
            continue
        printed = ""
        for line in text.splitlines():
            if line.startswith("$ adalora "):
                main(shlex.split(line)[2:])
                printed += f"{line}\n{capsys.readouterr().out}"
                commands += 1
        assert printed == text
    return commands
