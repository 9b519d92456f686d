"""Print reports, and read where else they go."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from adalora_core.checker.reports import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator


def parse_output_file(setting: str) -> tuple[str, Path]:
    """Split `FORMAT=FILE`.

    Raises:
        ValueError: the format is unknown, or the file is missing.
    """
    format_, _, name = setting.partition("=")
    if format_ not in FORMATS or not name:
        raise ValueError(
            f"--output-file: expected FORMAT=FILE, where FORMAT is one of {', '.join(FORMATS)}, "
            f"got {setting!r}"
        )
    return format_, Path(name)


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
        yield
    except OSError as error:
        # Python flushes once more at exit: discard that output.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, getattr(stream, "name", None)) from None


def wants_colour(choice: str) -> bool:
    """Decide on colours by `--color`, NO_COLOR, FORCE_COLOR, and whether output is a terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal()


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()
