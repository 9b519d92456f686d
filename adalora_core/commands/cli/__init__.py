"""Run the `adalora` command: one table of subcommands, each imported when it runs."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from adalora_core.commands.cli.console import (
    CANNOT_RUN,
    FINE,
    INTERRUPTED,
    TERMINATED,
    fail,
    print_text,
)
from adalora_core.floor.errors import AdaLoraError

COMMANDS = {
    "check": ("commands.cli.check", "check configurations, scripts, notebooks and saved LoRA"),
    "rule": ("commands.cli.information", "explain one rule, or list them all"),
    "explain": (
        "commands.cli.information:run_explain",
        "name the rule about an error of PEFT or torch",
    ),
    "plan": ("commands.cli.plan", "show what AdaLoRA or LoRA will train, and which rank fits"),
    "schema": (
        "commands.cli.information:run_schema",
        "print the JSON Schema of a configuration",
    ),
    "server": ("commands.server", "serve an editor while you type"),
    "env": (
        "commands.cli.information:run_env",
        "print versions and backends, and why a backend is missing",
    ),
    "report": ("commands.cli.adapters:run_report", "print or draw the ranks of a saved adapter"),
    "export-lora": ("commands.cli.adapters:run_export", "write a saved adapter as plain LoRA"),
    "demo": ("commands.demo", "fine-tune a real sentence encoder with AdaLoRA"),
}
"""`{command: (module, one line of help)}`; a function, `run` if none is named, takes argv."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `adalora COMMAND ...`; exit code 0 fine, 1 findings, 2 could not run."""
    command, *rest = list(sys.argv[1:] if argv is None else argv) or [""]
    with raising():
        try:
            return _run(command, rest)
        except (AdaLoraError, OSError, ValueError) as error:
            return fail(command, error)
        except KeyboardInterrupt:
            fail(command, "interrupted")
            return INTERRUPTED
        except Terminated:
            fail(command, "terminated")
            return TERMINATED


def _run(command: str, arguments: Sequence[str]) -> int:
    if command in COMMANDS:
        module, _, function = COMMANDS[command][0].partition(":")
        run = getattr(importlib.import_module(f"adalora_core.{module}"), function or "run")
        exit_code: int = run(arguments)
        return exit_code
    if command == "help" and arguments:
        return _run(arguments[0], ["--help"])
    if command in {"-h", "--help", "help"}:
        print_text(f"{_usage()}\n")
        return FINE
    if command in {"-V", "--version"}:
        from importlib.metadata import version

        print_text(f"adalora-core {version('adalora-core')}\n")
        return FINE
    if not command:
        print_text(f"{_usage()}\n", to_stderr=True)
        return CANNOT_RUN
    from adalora_core.commands.cli.console import similar
    from adalora_core.floor.escaping import visible

    unknown = f"adalora: unknown command {visible(repr(command))}{similar([command], COMMANDS)}"
    print_text(f"{unknown}\n'adalora help' lists the commands\n", to_stderr=True)
    return CANNOT_RUN


def _usage() -> str:
    lines = [
        "usage: adalora COMMAND [OPTIONS]",
        "",
        "Check and plan runs of AdaLoRA and LoRA, and report on saved adapters, without a network.",
        "",
        "commands:",
    ]
    lines += [f"  {name:<12} {summary}" for name, (_, summary) in COMMANDS.items()]
    lines += ["", "Exit codes: 0 no errors (see --fail-level of check), 1 errors, 2 could not run."]
    lines += ["Run 'adalora help COMMAND' for the options of a command."]
    return "\n".join(lines)


class Terminated(BaseException):
    """The process received SIGTERM."""


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt and SIGTERM raise Terminated, once each.

    Repetitions are ignored: files are being deleted. Handlers that a program has set stay, and so
    do signals that it ignores.
    """
    usual: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    free = [each for each, handler in usual.items() if signal.getsignal(each) == handler]

    def end(number: int, _: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    try:
        for each in free:
            signal.signal(each, end)
    except ValueError:  # only the main thread has signals
        free = []
    try:
        yield
    finally:
        for each in free:
            signal.signal(each, usual[each])
