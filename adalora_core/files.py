"""Write files whole or not at all: every file that this package writes is written here."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, as `write_files` does.

    Raises:
        OSError: the folder is missing or not writable; `path` is as it was.
    """
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together, all of them or none.

    Args:
        contents: `{path: content}`; the folders exist, and a symbolic link at a path is replaced,
            never followed.

    Raises:
        OSError: the disk is full, or a folder is missing or not writable; all files are as before.
    """
    with staged(contents) as temporary:
        for path in contents:
            rename(temporary[path], path)
        for folder in {path.parent for path in contents}:
            sync_folder(folder)


@contextlib.contextmanager
def staged(contents: Mapping[Path, bytes]) -> Iterator[dict[Path, Path]]:
    """Write `contents` under temporary names, and yield `{path: temporary path}`.

    A file has the permissions and the owner of the file at its path, without setuid and setgid, or
    else those of a new file. Files that are still there at the end are deleted.

    Raises:
        OSError: as `write_files`.
    """
    from tempfile import mkstemp  # not free, and most runs write no file

    temporary: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            with _naming(path):
                _refuse_folder(path)
                descriptor, name = mkstemp(dir=path.parent, prefix=".adalora-", suffix=".tmp")
                temporary[path] = Path(name)
                try:
                    rest = memoryview(content)
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
                    _set_permissions(temporary[path], path)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        yield temporary
    finally:
        for each in temporary.values():
            with contextlib.suppress(OSError):
                each.unlink()


def rename(source: Path, target: Path) -> None:
    """Rename `source` to `target`; an error names `target`."""
    with _naming(target):
        source.replace(target)


def sync_folder(folder: Path) -> None:
    """Wait until the renames in `folder` are on the disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # a file system that has no such call
            raise
    finally:
        os.close(descriptor)


def _refuse_folder(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _set_permissions(temporary: Path, path: Path) -> None:
    like = path.lstat() if path.is_file() and not path.is_symlink() else None
    if like is None:
        temporary.chmod(0o666 & ~_umask())
        return
    if hasattr(os, "chown"):
        # Only root may give files away, and only root has to.
        with contextlib.suppress(PermissionError):
            os.chown(temporary, like.st_uid, like.st_gid)
    temporary.chmod(stat.S_IMODE(like.st_mode) & 0o777)


def _umask() -> int:
    # Files that another thread creates in between are private, and not open to everybody.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name `path` in errors; nobody knows the temporary file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
