"""The writer of every file: whole or not at all, never through a link, with fitting permissions."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from adalora_core.floor.files import write_file, write_files

OLD, NEW = b"old\n", b"new\n"
ON_POSIX = pytest.mark.skipif(os.name == "nt", reason="would have shown links and permissions")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def fail(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (OLD, b"", bytes(3_000_000), NEW):
        write_file(path, content)
        assert path.read_bytes() == content
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["os.write", "os.fsync", "os.replace", "os.chmod"])
def test_a_failure_leaves_all_files_as_they_were(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files({tmp_path / "a": OLD, tmp_path / "b": OLD})
    monkeypatch.setattr(call, fail)
    with pytest.raises(OSError, match="No space") as raised:
        write_files({tmp_path / "a": NEW, tmp_path / "b": NEW})
    assert raised.value.filename == str(tmp_path / "a")
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {OLD}
    assert names_in(tmp_path) == ["a", "b"]


def test_a_folder_in_the_place_of_one_file_leaves_the_others(tmp_path: Path) -> None:
    write_file(tmp_path / "a", OLD)
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        write_files({tmp_path / "a": NEW, tmp_path / "b": NEW})
    assert raised.value.filename == str(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == OLD
    assert names_in(tmp_path) == ["a", "b"]


def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "file", NEW)
    assert names_in(tmp_path) == []


@ON_POSIX
def test_no_file_takes_the_place_of_a_device_or_a_pipe(tmp_path: Path) -> None:
    """As root, a rename over /dev/null leaves the machine without it."""
    pipe, output = tmp_path / "pipe", tmp_path / "stdout"
    os.mkfifo(pipe)
    output.symlink_to("/proc/self/fd/1")  # what /dev/stdout is
    for path in (pipe, output):
        with pytest.raises(OSError, match="expected a file, got a device or a pipe") as caught:
            write_files({tmp_path / "other": NEW, path: NEW})
        assert caught.value.filename == str(path)
    assert names_in(tmp_path) == ["pipe", "stdout"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_missing_folder_is_named_by_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        write_file(tmp_path / "no" / "file", NEW)
    assert raised.value.filename == str(tmp_path / "no" / "file")


@ON_POSIX
@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_a_link_is_replaced_and_not_followed(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_bytes(OLD)
        target.chmod(0o600)
    elif kind == "folder":
        target.mkdir()
    path = tmp_path / "file"
    path.symlink_to(target)
    write_file(path, NEW)
    assert not path.is_symlink()
    assert path.read_bytes() == NEW
    assert target.exists() == (kind != "nothing")
    if kind == "file":
        assert target.read_bytes() == OLD


@ON_POSIX
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_file(tmp_path / "file", NEW)
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "file") == 0o666 & ~mask


@ON_POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755, 0o4755, 0o2775, 0o1644])
def test_a_replaced_file_keeps_its_permissions_without_setuid(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    path.chmod(mode)
    write_file(path, NEW)
    assert mode_of(path) == mode & 0o777
