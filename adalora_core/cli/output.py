"""Print reports, and write files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from adalora_core.contract.reports import FORMATS

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


def write_file(path: Path, content: bytes, like: os.stat_result | None = None) -> None:
    """Write `content` to a new file beside `path`, then rename it to `path`.

    Args:
        path: the file; a symbolic link would be replaced, not followed.
        content: the whole content.
        like: the file whose permissions and owner the new file gets; None: the defaults.

    Raises:
        OSError: the folder is missing or not writable; `path` is unchanged.
    """
    import tempfile  # slow to import, and most runs write no file

    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content)
        if like is not None and hasattr(os, "chown"):
            # Only root can give a file to another owner.
            with contextlib.suppress(PermissionError):
                os.chown(temporary, like.st_uid, like.st_gid)
        mode = 0o666 & ~_umask() if like is None else stat.S_IMODE(like.st_mode)
        Path(temporary).chmod(mode)
        _rename(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _rename(temporary: str, path: Path) -> None:
    try:
        Path(temporary).replace(path)
    except OSError as error:  # which names the temporary file, unknown to the user
        raise OSError(error.errno, error.strerror, str(path)) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
