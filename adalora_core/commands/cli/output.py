"""Print what a command reports or why it could not run, and name the exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from adalora_core.commands.session import SESSION

FINE = 0
"""No finding at or above the fail level."""

FINDINGS = 1
"""Findings; content that cannot be parsed is one."""

CANNOT_RUN = 2
"""Wrong usage, a missing or unreadable file, or nothing to check."""

INTERRUPTED = 130
"""Stopped from the keyboard: 128 plus the number of SIGINT, as in a shell."""

TERMINATED = 143
"""Ended by another program: 128 plus the number of SIGTERM."""

_WHOLE = re.compile(r" *\d* \||  --> | {8}")
"""How lines begin that are not wrapped."""


def print_text(text: str, *, to_stderr: bool = False) -> None:
    """Print a report; a closed pipe is not an error."""
    stream = sys.stderr if to_stderr else sys.stdout
    if stream is None:  # closed before this process started
        return
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        # Escape the characters that the terminal cannot show.
        reconfigure(errors="backslashreplace")
    with _broken_pipe_passes(stream):
        stream.write(text)
        stream.flush()


def print_json(**entries: object) -> None:
    """Print values as JSON, with the version of their format."""
    print_text(json.dumps({"version": 1, **entries}, indent=2) + "\n")


def print_bytes(content: bytes) -> None:
    """Print the content of a file, or a difference, byte for byte."""
    if sys.stdout is None:
        return
    with _broken_pipe_passes(sys.stdout):
        sys.stdout.flush()
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is None:  # a caller in Python replaced standard output
            sys.stdout.write(content.decode("utf-8", "backslashreplace"))
        else:
            buffer.write(content)
        sys.stdout.flush()


@contextlib.contextmanager
def _broken_pipe_passes(stream: TextIO) -> Iterator[None]:
    try:
        with SESSION.waiting():
            yield
    except OSError as error:
        # Python flushes once more at exit: discard that output.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, getattr(stream, "name", None)) from None


def wrapped(text: str) -> str:
    """Break long lines between words where standard output is a terminal.

    Excerpts of a file, places in it and lines to be pasted stay whole.
    """
    if not is_terminal():
        return text
    import shutil
    import textwrap

    columns = shutil.get_terminal_size().columns
    lines = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        is_whole = len(line) <= columns or _WHOLE.match(line)
        lines += (
            [line]
            if is_whole
            else textwrap.wrap(
                line,
                columns,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    return "".join(f"{line}\n" for line in lines)


def wants_colour(choice: str) -> bool:
    """Decide on colours by `--color`, NO_COLOR, FORCE_COLOR, TERM and the kind of output."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    has_colours = is_terminal() and os.environ.get("TERM") != "dumb"
    return bool(os.environ.get("FORCE_COLOR")) or has_colours


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def fail(command: str, error: Exception | str) -> int:
    """Print why `adalora COMMAND` could not run, and return the exit code 2."""
    from adalora_core.config.findings import ConfigError
    from adalora_core.floor.escaping import visible
    from adalora_core.floor.progress import without_bar

    # The lines of a report hold no line break of the file; another message may hold one.
    if isinstance(error, ConfigError):
        lines = ["the configuration has errors", *str(error).split("\n")]
    else:
        # The function behind a command begins its messages with its own name.
        lines = [in_one_line(error).removeprefix(f"{command.replace('-', '_')}: ")]
    shown = "\n".join(visible(line) for line in lines)
    with without_bar():
        print(f"adalora {visible(command)}: {shown}", file=sys.stderr)
    return CANNOT_RUN


def in_one_line(error: Exception | str) -> str:
    """Return the message of an error, with the name of its file."""
    if isinstance(error, OSError) and error.strerror is not None:
        # Without the error number, which helps nobody.
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}"
    return str(error)
