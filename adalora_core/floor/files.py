"""Write files whole or not at all, and read files that others may have made.

Every file that this package writes is written here.

A process that is killed leaves its temporary files behind. The next write into their folder finds
them by their names and deletes them. A lock, which dies with its process, tells the file of a
living process from one that was left behind.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora_core.floor.escaping import visible
from adalora_core.floor.limits import DEFAULT_LIMITS

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from mmap import mmap

_TEMPORARY = ".adalora-{}.tmp"
"""The names of temporary files: hidden, with a suffix that no search looks for."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, as `write_files` does."""
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes | mmap]) -> None:
    """Write files that belong together, all of them or none.

    The folders exist, and a symbolic link at a path is replaced, never followed.

    Raises:
        OSError: the disk is full, a folder is missing or not writable, or a path is that of a
            folder, a device or a pipe; all files are as before.
    """
    with staged(contents) as temporary:
        for path in contents:
            rename(temporary[path], path)
        for folder in {path.parent for path in contents}:
            sync_folder(folder)


@contextlib.contextmanager
def staged(contents: Mapping[Path, bytes | mmap]) -> Iterator[dict[Path, Path]]:
    """Write `contents` under temporary names, and yield `{path: temporary path}`.

    A file has the permissions and the owner of the file at its path, without setuid and setgid, or
    else those of a new file. Files that are still there at the end are deleted. What killed
    processes have left in the same folders is deleted first.

    Raises:
        OSError: as `write_files`.
    """
    names: dict[Path, Path] = {}
    with _temporary_files() as files:
        for path, content in contents.items():
            with _naming(path):
                if path.is_dir() and not path.is_symlink():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                if _is_device(path):
                    raise OSError(errno.EINVAL, "expected a file, got a device or a pipe")
                like = path.lstat() if path.is_file() and not path.is_symlink() else None
                names[path], descriptor = files.create(path, 0o666 if like is None else 0o600)
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                if like is not None:
                    # Only root may give files away, and only root has to.
                    with contextlib.suppress(PermissionError, AttributeError):
                        os.chown(names[path], like.st_uid, like.st_gid)
                    names[path].chmod(stat.S_IMODE(like.st_mode) & 0o777)
                os.fsync(descriptor)
                if fcntl is None:  # Windows renames no open file
                    files.close()
        yield names


def _is_device(path: Path) -> bool:
    """Return whether a new file would take the place of a device, such as /dev/null as root."""
    if path.is_symlink():
        return str(path.readlink()).startswith("/proc/")  # as /dev/stdout
    return path.exists() and not path.is_file() and not path.is_dir()


@contextlib.contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder in `target` that is deleted as the temporary files of `staged` are."""
    with _temporary_files() as files:
        yield files.create(target / "staging", None)[0]


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait until no other block of `locked` writes into `folder`, and keep others waiting.

    The block ends with its process. Nothing waits where the system or the file system has no locks,
    nor for a folder that cannot be opened. With `shared` it only reads, beside others that only
    read.
    """
    descriptor = None
    if fcntl is not None:
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


class _TemporaryFiles:
    """Temporary files and folders of one block, locked where the system has locks."""

    def __init__(self) -> None:
        self._names: list[Path] = []
        self._descriptors: list[int] = []

    def create(self, path: Path, mode: int | None) -> tuple[Path, int]:
        """Create a file of a mode, or a folder, beside `path`; return its name and descriptor."""
        _delete_leftovers(path)
        while True:
            name = path.with_name(_TEMPORARY.format(os.urandom(8).hex()))
            self._names.append(name)  # before it is there: a signal may arrive at any moment
            try:
                if mode is None:
                    name.mkdir(0o700)
                    descriptor = os.open(os.devnull if fcntl is None else name, os.O_RDONLY)
                else:
                    descriptor = os.open(name, _NEW, mode)
                self._descriptors.append(descriptor)
                if fcntl is None:
                    return name, descriptor
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(descriptor), name.lstat()):
                    return name, descriptor
            except FileNotFoundError:
                if not path.parent.is_dir():
                    raise
            # Another process took it for a leftover.

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def delete(self) -> None:
        for name in self._names:
            with contextlib.suppress(OSError):
                _delete(name)
        self.close()


@contextlib.contextmanager
def _temporary_files() -> Iterator[_TemporaryFiles]:
    """Yield temporary files that are deleted at the end, unless they were renamed."""
    files = _TemporaryFiles()
    try:
        try:
            yield files
        finally:
            files.delete()
    except BaseException:
        files.delete()  # SIGINT may have come in the middle of it
        raise


def _delete(name: Path) -> None:
    if name.is_dir() and not name.is_symlink():
        from shutil import rmtree

        rmtree(name)
    else:
        name.unlink()


def _delete_leftovers(path: Path) -> None:
    """Delete the temporary files and folders beside `path` whose writers are dead.

    One is kept if its writer lives, if it may belong to another user or program, and where there
    are no locks.
    """
    if fcntl is None:
        return
    owners = {os.geteuid()}
    with contextlib.suppress(OSError):
        owners.add(path.lstat().st_uid)  # root gives a file to the owner of its target
    for name in path.parent.glob(_TEMPORARY.format("[0-9a-f]" * 16)):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            # Neither follow a link nor wait for a pipe that somebody has put there.
            access = os.O_RDONLY if name.is_dir() else os.O_RDWR
            descriptor = os.open(name, access | os.O_NOFOLLOW | os.O_NONBLOCK)
            stack.callback(os.close, descriptor)
            found = os.fstat(descriptor)
            is_file = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
            if (is_file or stat.S_ISDIR(found.st_mode)) and found.st_uid in owners:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its writer may have renamed it before the lock.
                if os.path.samestat(found, name.lstat()):
                    _delete(name)


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


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name `path` in errors; nobody knows the temporary file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


# --- files that others may have made ------------------------------------------------------------


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
    with open(open_regular_file(path), "rb") as file:
        return file.read(most)


def object_in(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file exceeds a limit, is not a JSON object, or gives a key twice.
    """
    raw = read_start(path, DEFAULT_LIMITS.file_bytes + 1)
    try:
        return _decoded(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r}: {visible(str(error))}") from None


def _decoded(raw: bytes) -> dict[str, Any]:
    if len(raw) > DEFAULT_LIMITS.file_bytes:
        raise ValueError(f"the document has more than {DEFAULT_LIMITS.file_bytes} bytes")
    values = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=without_repetition)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the content is wrong, not a type
    _bound_depth(values, DEFAULT_LIMITS.depth)
    json.dumps(values, ensure_ascii=False).encode()  # half of a surrogate pair is not text
    return values


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of decoded pairs; a ValueError if a key appears twice."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} appears twice")
        values[key] = value
    return values


def _bound_depth(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if left == 0:
            raise ValueError(f"the document is nested deeper than {DEFAULT_LIMITS.depth} levels")
        for each in value.values() if isinstance(value, dict) else value:
            _bound_depth(each, left - 1)
