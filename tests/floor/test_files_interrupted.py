"""Test what signals leave of a write: nothing, or what the next write deletes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import signalled_writes
from signalled_writes import INTERRUPTED, NEW, OLD

from adalora_core.floor.files import staging_folder, write_file

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and locks of POSIX")
BY_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)
HERE = str(Path(signalled_writes.__file__).parent)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([HERE, *sys.path])}


def _temporary(folder):
    return {path.name for path in folder.rglob(".adalora-*")}


def _left_behind(folder, number=0):
    """Return a name of a temporary file in a folder."""
    return folder / f".adalora-{number:016x}.tmp"


# --- a signal at any moment -----------------------------------------------------------------------


def _ended_everywhere(kind, number, root, step):
    """Write in many processes that a signal ends; return their exit codes by folder."""
    command = [sys.executable, signalled_writes.__file__, kind, str(number), str(root), str(step)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    codes = {root / at: code for at, code in json.loads(done.stdout).items()}
    *killed, last = codes.values()
    assert killed
    assert last == 0
    assert set(killed) == {INTERRUPTED if number == signal.SIGINT else -number}
    for folder in codes:
        assert (folder / "target").read_bytes() in {OLD, NEW}
    return list(codes)


STEPS = [pytest.param(61, id="some"), pytest.param(1, id="all", marks=pytest.mark.nightly)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["one", "two", "folder"])
def test_interrupted_write_leaves_no_temporary_file(kind, step, tmp_path):
    folders = _ended_everywhere(kind, signal.SIGINT, tmp_path, step)
    assert {folder: _temporary(folder) for folder in folders if _temporary(folder)} == {}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["one", "two", "folder"])
def test_next_write_deletes_what_a_killed_write_has_left(kind, step, tmp_path):
    folders = _ended_everywhere(kind, signal.SIGKILL, tmp_path, step)
    assert any(_temporary(folder) for folder in folders)
    for folder in folders:
        signalled_writes.KINDS[kind](folder)
        assert _temporary(folder) == set()
        assert (folder / "target").read_bytes() == NEW


def test_next_write_deletes_no_file_and_folder_with_another_name(tmp_path):
    (tmp_path / ".adalora-notes.tmp").touch()
    (tmp_path / ".adalora-x.tmp").mkdir()
    write_file(tmp_path / "target", NEW)
    assert _temporary(tmp_path) == {".adalora-notes.tmp", ".adalora-x.tmp"}


# --- temporary files that are no leftovers --------------------------------------------------------

WAITING = """
import os, signal, sys
from pathlib import Path
real = os.fsync
def fsync(descriptor):
    print("written", flush=True)
    sys.stdin.readline()
    real(descriptor)
os.fsync = fsync
from adalora_core.floor.files import write_file
write_file(Path(sys.argv[1]), b"slow")
"""


def test_temporary_file_of_a_living_process_stays(tmp_path):
    path = tmp_path / "target"
    writer = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True,
    )  # fmt: skip
    assert writer.stdout.readline() == "written\n"
    (living,) = _temporary(tmp_path)
    write_file(path, NEW)
    write_file(path.with_name("other"), NEW)
    assert (_temporary(tmp_path), path.read_bytes()) == ({living}, NEW)
    writer.communicate("\n" * 9)
    assert writer.returncode == 0
    assert (_temporary(tmp_path), path.read_bytes()) == (set(), b"slow")


def _other_user(slot, _):
    slot.write_bytes(b"theirs")
    os.chown(slot, 12345, 12345)


PUT = {
    "link": lambda slot, victim: slot.symlink_to(victim),
    "dangling link": lambda slot, victim: slot.symlink_to(victim.with_name("none")),
    "link to a folder": lambda slot, victim: slot.symlink_to(victim.parent),
    "hard link": lambda slot, victim: os.link(victim, slot),
    "pipe": lambda slot, _: os.mkfifo(slot),
    "another user": pytest.param(_other_user, marks=BY_ROOT),
}  # fmt: skip


@pytest.mark.parametrize("put", PUT.values(), ids=PUT)
def test_what_somebody_else_has_put_in_place_of_a_temporary_file_stays(put, tmp_path):
    victim = tmp_path / "elsewhere" / "victim"
    victim.parent.mkdir()
    victim.write_bytes(b"precious")
    path = tmp_path / "work" / "target"
    path.parent.mkdir()
    for number in range(6):
        put(_left_behind(path.parent, number), victim)
    write_file(path, NEW)
    with staging_folder(path.parent):
        pass
    assert path.read_bytes() == NEW
    assert len(list(path.parent.iterdir())) == 7
    assert [each.name for each in victim.parent.iterdir()] == ["victim"]
    assert victim.read_bytes() == b"precious"


@BY_ROOT
def test_root_deletes_what_it_had_given_to_the_owner_of_the_target(tmp_path):
    path = tmp_path / "target"
    path.write_bytes(OLD)
    _left_behind(tmp_path).write_bytes(b"left")
    for each in (path, _left_behind(tmp_path)):
        os.chown(each, 12345, 12345)
    write_file(path, NEW)
    assert [each.name for each in tmp_path.iterdir()] == ["target"]


def test_file_system_without_locks_is_written_and_nothing_is_deleted(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    path = tmp_path / "target"
    left = _left_behind(tmp_path)
    left.write_bytes(b"left")
    write_file(path, NEW)
    assert (_temporary(tmp_path), path.read_bytes()) == ({left.name}, NEW)


def test_new_folder_that_another_process_takes_for_a_leftover_is_made_anew(tmp_path, monkeypatch):
    make = Path.mkdir

    def make_and_lose(folder, mode):
        make(folder, mode)
        monkeypatch.undo()
        write_file(folder.with_name("other"), NEW)  # as another process does at that moment

    monkeypatch.setattr(Path, "mkdir", make_and_lose)
    with staging_folder(tmp_path) as folder:
        assert folder.is_dir()
    assert [each.name for each in tmp_path.iterdir()] == ["other"]
