"""Show the difference that fixes make to a file, or write the fixed file."""

from __future__ import annotations

import difflib
import errno
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.checker.documents import read_bytes
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.floor.limits import Limits

_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def unified_diff(name: str, old: str, new: str) -> str:
    """Return the difference for `patch -p0` and `git apply -p0`; empty if there is none.

    Line ends are kept. A last line without a line end is marked as these tools require.
    """
    # A tab marks the end of a name that holds blanks, as in git.
    shown = visible(name, None) + ("\t" if " " in name else "")
    return "".join(_mark_ends(difflib.unified_diff(_lines(old), _lines(new), shown, shown)))


def _lines(text: str) -> list[str]:
    # str.splitlines would also split at characters inside of strings.
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _mark_ends(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def rewrite(name: str, old: bytes, new: bytes, limits: Limits) -> None:
    """Replace the content of a file, whole or not at all; keep its mode and owner.

    If `name` is a symbolic link, its target changes and the link stays.

    Raises:
        OSError: the file is read-only, changed since the check, or cannot be written; it keeps
            its content.
    """
    target = Path(os.path.realpath(name))
    # A writable folder allows to replace a read-only file, and root may write any file.
    if not target.stat().st_mode & _WRITABLE or not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "not written: the file is read-only", name)
    if read_bytes(target, limits, "notebook") != old:  # the format that allows the most
        raise OSError(errno.EBUSY, "not written: the file changed while it was checked", name)
    try:
        write_file(target, new)
    except OSError as error:
        raise OSError(error.errno, f"not written: {error.strerror}", name) from None
