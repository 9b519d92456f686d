"""How a fixed file gets its new content: as a difference to look at, or written in its place."""

from __future__ import annotations

import difflib
import errno
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.contract.reports.escaping import visible
from adalora_core.contract.text.reading import read_bytes
from adalora_core.files import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.text.limits import Limits

_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def unified_diff(name: str, old: str, new: str) -> str:
    """Return the difference as `patch -p0` and `git apply -p0` take it; nothing if there is none.

    Line ends are kept as they are; a last line without one is marked as those tools want it.
    """
    # A name with blanks ends at a tab, as git writes it.
    shown = visible(name, None) + ("\t" if " " in name else "")
    return "".join(_marked(difflib.unified_diff(_lines(old), _lines(new), shown, shown)))


def _lines(text: str) -> list[str]:
    # Not splitlines, which takes characters inside of strings for line ends.
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _marked(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def rewrite(name: str, old: bytes, new: bytes, limits: Limits) -> None:
    """Replace the content of a file, whole or not at all; its mode and owner stay.

    Where `name` is a symbolic link, the file that it names changes and the link stays.

    Raises:
        OSError: the file is read-only, is not what was checked any more, or cannot be written; it
            is as it was.
    """
    target = Path(os.path.realpath(name))
    # The folder may allow to replace what the file forbids to change; root may everything.
    if not target.stat().st_mode & _WRITABLE or not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "not fixed: the file is read-only", name)
    if read_bytes(target, limits) != old:
        raise OSError(errno.EBUSY, "not fixed: the file changed while it was checked", name)
    try:
        write_file(target, new)
    except OSError as error:
        raise OSError(error.errno, f"not fixed: {error.strerror}", name) from None
