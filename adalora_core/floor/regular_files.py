"""Read files that others may have made: never a pipe or a device, and never more than asked for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_CHUNK = 1 << 18


def is_inside(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Return whether a path is in a folder, after all links of both."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def is_link_out(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a link out of its folder, and not one into a hub's cache.

    The cache keeps `<model>/snapshots/<revision>/<file>` as a link to `<model>/blobs/<digest>`. A
    link in the place of `blobs` may lead anywhere.
    """
    folder = Path(path).parent.resolve()
    snapshots = next((each for each in (folder, *folder.parents) if each.name == "snapshots"), None)
    blobs = snapshots and snapshots.with_name("blobs")
    is_cached = blobs is not None and not blobs.is_symlink() and is_inside(path, blobs)
    return not (is_cached or is_inside(path, folder))


def refuse_links_out(folder: str | os.PathLike[str]) -> None:
    """Raise an OSError if a configuration or weights in a folder are a link out of it."""
    for path in sorted(Path(folder).glob("*")):
        if path.suffix in {".json", ".safetensors", ".bin"} and is_link_out(path):
            why = "a link out of its folder is not followed; replace the link by the file"
            raise OSError(errno.ELOOP, why, str(path))


def open_regular_file(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading and return its descriptor, or raise an OSError.

    A pipe would block, and a device would never end.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))


def read_within(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a regular file; a ValueError if it has more than `most` bytes."""
    if len(raw := read_start(path, most + 1)) > most:
        raise ValueError(f"{os.fspath(path)} has more than {most} bytes")
    return raw


def read_start(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a regular file, at most `most` bytes of it."""
    descriptor = open_regular_file(path)
    try:
        chunks = []
        # Read in chunks; a regular file ends where a read returns less than was asked for.
        while most > 0:
            asked = min(most, _CHUNK)
            chunk = os.read(descriptor, asked)
            chunks.append(chunk)
            most -= len(chunk)
            if len(chunk) < asked:
                break
        return b"".join(chunks)
    finally:
        os.close(descriptor)
