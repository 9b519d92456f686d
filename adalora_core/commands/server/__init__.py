"""Run `adalora server`: the findings of `adalora check` over the Language Server Protocol."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from adalora_core.commands.cli.console import FINE, INTERRUPTED, TERMINATED, Parser, fail, flag
from adalora_core.floor.errors import MissingExtraError


def run(argv: Sequence[str]) -> int:
    """Run `adalora server` until the editor ends it, and return the exit code."""
    parser = Parser(
        "server",
        "Serve an editor, which starts this command, over the Language Server Protocol: findings "
        "while typing, fixes, descriptions and proposals (docs/editors.md).",
        {"adalora server": "for every editor", "adalora server --stdio": "the same"},
        {"--stdio": flag("accepted for editors that pass it; there is no other")},
    )
    parser.parse_args(argv)
    if importlib.util.find_spec("pygls") is None:
        return fail("server", MissingExtraError("pygls", "lsp", "adalora server"))
    from adalora_core.commands.server.handlers import new_server

    # A signal ends the process at once; an exception would wait for the editor's next line.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    answers, sys.stdout = sys.stdout, sys.stderr  # a stray print must not end the conversation
    server = new_server()
    server.start_io(sys.stdin.buffer, answers.buffer)
    # The exit code of the protocol for an editor that left without the request `shutdown` is 1.
    return FINE if server.protocol._shutdown else 1  # noqa: SLF001


def _end(number: int, _: object) -> NoReturn:
    os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)
