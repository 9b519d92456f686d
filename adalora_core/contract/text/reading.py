"""Read a file or bytes as text, within the limits, with the problems of the encoding."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.contract.text import problems
from adalora_core.contract.text.document import Document
from adalora_core.contract.text.formats import format_of
from adalora_core.contract.text.problems import Problem

if TYPE_CHECKING:
    from adalora_core.contract.text.formats import Format
    from adalora_core.contract.text.limits import Limits

_CHUNK = 1 << 18

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def is_inside(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Return whether a path is in a folder, after all links of both."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def is_link_out(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a link out of its folder, and not one into a hub's cache.

    The cache keeps `<model>/snapshots/<revision>/<file>` as a link to `<model>/blobs/<digest>`.
    """
    folder = Path(path).parent.resolve()
    snapshots = next((each for each in (folder, *folder.parents) if each.name == "snapshots"), None)
    inside = is_inside(path, folder)
    return not inside and not (snapshots and is_inside(path, snapshots.with_name("blobs")))


def open_regular_file(path: str | os.PathLike[str]) -> int:
    """Open a file for reading and return its descriptor.

    Raises:
        OSError: the file is missing, unreadable, or not a regular file (a pipe would block, a
            device would never end).
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))


def read_bytes(
    path: str | os.PathLike[str],
    limits: Limits,
    format: Format | None = None,  # noqa: A002 - the option's name
) -> bytes:
    """Read a regular file, at most one byte more than the limit for its format.

    Raises:
        OSError: as `open_regular_file`.
    """
    descriptor = open_regular_file(path)
    try:
        chunks = []
        left = limits.bytes_to_read(format or format_of(path)) + 1
        # Read in chunks; a regular file ends where a read returns less than was asked for.
        while left > 0:
            asked = min(left, _CHUNK)
            chunk = os.read(descriptor, asked)
            chunks.append(chunk)
            left -= len(chunk)
            if len(chunk) < asked:
                break
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def to_text(raw: bytes, encoding: str = "utf-8") -> Document:
    """Decode bytes into a document without a value; fatal if they are not text."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return Document("").fail(_encoding(f"the file is {name}, not UTF-8", 0))
    found = []
    if raw.startswith(codecs.BOM_UTF8):
        raw = raw.removeprefix(codecs.BOM_UTF8)
        message = "the file starts with a byte order mark, which Python's json refuses"
        found.append(_encoding(message, 0))
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        # Keep the text before the fault, so that its position has a line.
        text = raw[: error.start].decode(encoding, "replace")
        byte = f"byte {raw[error.start]:#04x} at offset {error.start}"
        name = encoding.upper()
        return Document(text).fail(_encoding(f"{byte} is not {name} ({error.reason})", len(text)))
    nul = text.find("\0")
    if nul >= 0:
        message = "the file holds a NUL character: it is not text"
        return Document(text).fail(*found, _encoding(message, nul))
    return Document(text, problems=found)


def _encoding(message: str, offset: int) -> Problem:
    return Problem(problems.BAD_ENCODING, message, offset=offset)
