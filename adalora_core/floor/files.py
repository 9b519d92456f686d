"""Write files whole or not at all: every file that this package writes is written here.

A process that is killed leaves its temporary file behind. The name of such a file depends on its
target, so the next write to the target finds and deletes it. A lock, which dies with its process,
tells the file of a living process from one that was left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_FIXED_NAMES = 4
"""How many writers of one target get a name that the next write looks for."""


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
    else those of a new file. Files that are still there at the end are deleted, also if SIGTERM
    ends the process. What a killed process has left for the same paths is deleted first.

    Raises:
        OSError: as `write_files`.
    """
    files = _TemporaryFiles()
    with _deleted_at_the_end(files.delete):
        for path, content in contents.items():
            with _naming(path):
                _refuse_folder(path)
                descriptor = files.create(path)
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                _set_permissions(files.names[path], path)
                os.fsync(descriptor)
                files.release(path)
        yield files.names


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait until no other block of `locked` writes into `folder`, and keep others waiting.

    The block ends with its process. Nothing waits where the system or the file system has no locks,
    nor for a folder that cannot be opened.

    Args:
        folder: the folder.
        shared: only read, beside others that only read.
    """
    descriptor = None
    if os.name != "nt":
        import fcntl

        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a fork holds the descriptor too
            os.close(descriptor)


_STAGING = "staging"


@contextlib.contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder in `target` that is deleted as the temporary files of `staged` are."""
    files = _TemporaryFiles()
    with _deleted_at_the_end(files.delete):
        path = target / _STAGING
        files.create(path, _new_folder)
        yield files.names[path]


def delete_staging(target: Path) -> None:
    """Delete the folders of `staging_folder` that killed processes have left in `target`."""
    path = target / _STAGING
    for name in _fixed_names(path):
        _delete_leftover(name, path)


@contextlib.contextmanager
def _deleted_at_the_end(delete: Callable[[], None]) -> Iterator[None]:
    """Call `delete` at the end of a block, also if SIGTERM ends the process.

    A handler that the program has set is kept, and has to raise to have the same effect. Only the
    main thread can set one.
    """
    import signal
    from threading import current_thread, main_thread

    is_free = (
        current_thread() is main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    pending = os.getpid(), delete
    _PENDING.append(pending)
    try:
        if is_free:
            signal.signal(signal.SIGTERM, _die)
        try:
            yield
        finally:
            delete()
    except BaseException:
        delete()  # SIGINT may have come in the middle of it
        raise
    finally:
        if is_free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _PENDING.remove(pending)


_PENDING: list[tuple[int, Callable[[], None]]] = []
"""What SIGTERM has to delete, with the processes: a fork inherits the list, but not the files."""


def _die(number: int, _: object) -> None:
    """Delete all temporary files, and let the signal end the process as it would have."""
    import signal

    for process, delete in _PENDING:
        if process == os.getpid():
            delete()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _new_file(name: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(name, flags, 0o600)


def _new_folder(name: Path) -> int:
    name.mkdir(0o700)
    # Windows opens no folder.
    return os.open(os.devnull if os.name == "nt" else name, os.O_RDONLY)


def _delete(name: Path) -> None:
    if name.is_dir() and not name.is_symlink():
        from shutil import rmtree

        rmtree(name)
    else:
        name.unlink()


class _TemporaryFiles:
    """Temporary files and folders beside their targets, locked where the system has locks."""

    def __init__(self) -> None:
        self.names: dict[Path, Path] = {}
        self._open: dict[Path, int] = {}
        self._tried: tuple[Path, Path] | None = None

    def create(self, path: Path, make: Callable[[Path], int] = _new_file) -> int:
        """Create the file for a target and return its descriptor."""
        for name in _fixed_names(path):
            _delete_leftover(name, path)
            # A signal may arrive at any moment: `delete` must not take the file of another process.
            self._tried = name, path
            try:
                self._open[path] = make(name)
            except (FileExistsError, FileNotFoundError):
                continue  # another process has the name, or took a new folder for a leftover
            self.names[path] = name
            self._tried = None
            if _is_locked(self._open[path], name):
                return self._open[path]
            del self.names[path]
            os.close(self._open.pop(path))
        name = _temporary_name(path, os.urandom(8).hex())
        self.names[path] = name
        self._open[path] = make(name)
        return self._open[path]

    def release(self, path: Path) -> None:
        """Close a written file on Windows, which renames no open file; others keep the lock."""
        if os.name == "nt":
            os.close(self._open.pop(path))

    def delete(self) -> None:
        """Delete the files that were not renamed."""
        if self._tried is not None:
            _delete_leftover(*self._tried)
        for each in self.names.values():
            with contextlib.suppress(OSError):
                _delete(each)
        while self._open:
            os.close(self._open.popitem()[1])


def _fixed_names(path: Path) -> Iterator[Path]:
    """Yield the names of temporary files for a target that every process tries first."""
    for number in range(_FIXED_NAMES):
        yield _temporary_name(path, str(number))


def _temporary_name(path: Path, end: str) -> Path:
    """Return a name that is hidden and has a suffix that no search looks for."""
    from hashlib import sha256

    digest = sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.with_name(f".adalora-{digest}-{end}.tmp")


def _delete_leftover(name: Path, path: Path) -> None:
    """Delete the temporary file or folder of a writer of `path` that is dead.

    It is kept if its writer lives, if it may belong to another user or program, and where there
    are no locks.
    """
    if os.name == "nt":
        return
    import fcntl

    try:
        # Neither follow a link nor wait for a pipe that somebody has put there.
        access = os.O_RDONLY if name.is_dir() else os.O_RDWR
        descriptor = os.open(name, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # usually: there is none
        return
    try:
        found = os.fstat(descriptor)
        is_file = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if (is_file or stat.S_ISDIR(found.st_mode)) and found.st_uid in _owners(path):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its writer may have renamed it before the lock, and another one taken the name.
            if os.path.samestat(found, name.lstat()):
                _delete(name)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _owners(path: Path) -> set[int]:
    """Return the users whose temporary files for `path` this process may delete."""
    owners = {os.geteuid()}
    if owners == {0}:  # root gives a file to the owner of its target
        with contextlib.suppress(OSError):
            owners.add(path.lstat().st_uid)
    return owners


def _is_locked(descriptor: int, name: Path) -> bool:
    """Lock a new file; return whether it is still there, and not deleted as a leftover."""
    if os.name == "nt":
        return True
    import fcntl

    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return os.path.samestat(os.fstat(descriptor), name.lstat())
    except FileNotFoundError:
        return False


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
