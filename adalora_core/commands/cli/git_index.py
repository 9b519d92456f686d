"""List the files that git tracks, from the index of a repository alone; no program is run."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from adalora_core.floor.regular_files import read_within

MOST_BYTES = 64 << 20
"""The largest index, and the most names, that are read."""
_LONGEST_LINK = 4096
_CHECKSUM = 20
_MODES = {0o100644, 0o100755, 0o120000, 0o160000}
"""The modes of entries that are one file; a sparse index has folders too."""


def tracked_files(top: str) -> frozenset[str] | None:
    """Return the names of all files that git tracks below `top`, as `folded` returns them.

    None if the index cannot be read, or does not list all files itself.
    """
    try:
        raw = _index(Path(top, ".git"))
        names = [] if raw is None else _names(raw)
        return frozenset(folded(os.fsdecode(name)) for name in names)
    except (OSError, ValueError, IndexError, struct.error):
        return None


def folded(name: str) -> str:
    """Return a name in the form in which all names that a file system may confuse are equal."""
    return unicodedata.normalize("NFC", name).casefold()


def _index(link: Path) -> bytes | None:
    """Return the content of the index; None: nothing was added to the repository yet."""
    if link.is_file():  # which names the folder
        text = read_within(link, _LONGEST_LINK).decode("utf-8", "surrogateescape")
        link = link.parent / text.removeprefix("gitdir:").strip()
    if not (link / "index").exists() and (link / "HEAD").is_file():
        return None
    return read_within(link / "index", MOST_BYTES)


def _names(raw: bytes) -> Iterator[bytes]:
    """Yield the names in an index, whose form git describes in its page gitformat-index."""
    signature, version, count = struct.unpack_from(">4sII", raw)
    end = len(raw) - _CHECKSUM
    checksum = hashlib.sha1(raw[:end], usedforsecurity=False).digest()
    # Git may be told to leave the checksum out.
    if signature != b"DIRC" or version not in {2, 3, 4} or raw[end:] not in {checksum, bytes(20)}:
        raise ValueError("an index of an unknown form")
    at, name, room = 12, b"", MOST_BYTES
    for _ in range(count):
        mode, flags = struct.unpack_from(">I32xH", raw, at + 24)
        start = at + (64 if flags & 0x4000 else 62)
        kept = b""
        if version == 4:  # noqa: PLR2004
            dropped, start = _number(raw, start)
            kept = name[: len(name) - dropped]
        stop = raw.index(b"\0", start, end)
        name = kept + raw[start:stop]
        room -= len(name)
        if room < 0 or mode not in _MODES or flags & 0xFFF != min(len(name), 0xFFF):
            raise ValueError("an entry of another form")
        yield name
        at = stop + 1 if version == 4 else stop + 8 - (stop - at) % 8  # noqa: PLR2004
    while at < end:
        extension, length = struct.unpack_from(">4sI", raw, at)
        if not re.match(rb"[A-Z]", extension):  # others change what the entries mean
            raise ValueError("an extension that is not optional")
        at += 8 + length
    if at != end:
        raise ValueError("an extension beyond the end")


def _number(raw: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable width, and the offset behind it."""
    value = raw[at] & 0x7F
    while raw[at] & 0x80:
        at += 1
        value = ((value + 1) << 7) | (raw[at] & 0x7F)
        if value > MOST_BYTES:
            raise ValueError("a number of another form")
    return value, at + 1
