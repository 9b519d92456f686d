"""Test how SIGINT and SIGTERM end a command that is writing a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from adalora_core.commands.cli import main
from adalora_core.config.rules.base import SOUND

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

BROKEN = "".join(f"{key}: {json.dumps(value)}\n" for key, value in SOUND.items()).replace(
    "ADALORA", "adalora"
)
COMMANDS = {
    "fix": ["check", "--fix", "run.yaml"],
    "output-file": ["check", "run.yaml", "--output-file", "json=report.json"],
}
WAITING = """
import os, sys, time
def wait(*_):
    print("written", flush=True)
    while True:
        time.sleep(0.01)
os.fsync = wait
unlink = os.unlink
def unlink_after_another_signal(*arguments, **options):
    os.kill(os.getpid(), again)
    unlink(*arguments, **options)
if again := int(sys.argv.pop(1)):
    os.unlink = unlink_after_another_signal
from adalora_core.commands.cli import main
sys.exit(main())
"""
"""A command that stops in the middle of its first write; if asked to, it sends itself a signal
when it deletes its files.

It does not wait by `signal.pause`, which never returns if the signal comes just before it: Python
then knows of the signal, and runs its handler after the call."""


def _end(command, number, tmp_path, again=0):
    """Send a signal to a command while it writes; return its exit code and standard error."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(int(again)), *command], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    # The report of a check may be printed before its file is written.
    assert any(line == "written\n" for line in process.stdout)
    assert list(tmp_path.rglob(".adalora-*.tmp"))
    process.send_signal(number)
    _, err = process.communicate()
    return process.returncode, err


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
@pytest.mark.parametrize(
    ("name", "times"), [*((name, "once") for name in COMMANDS), ("fix", "twice")]
)
def test_signal_leaves_the_old_file_and_no_temporary_one(name, number, code, word, times, tmp_path):
    command = COMMANDS[name]
    (tmp_path / "run.yaml").write_text(BROKEN)
    (tmp_path / "pages").mkdir()
    ended = _end(command, number, tmp_path, number if times == "twice" else 0)
    assert ended == (code, f"adalora {command[0]}: {word}\n")
    assert {path.name for path in tmp_path.rglob("*")} == {"run.yaml", "pages"}
    assert (tmp_path / "run.yaml").read_text() == BROKEN


def test_what_a_killed_command_leaves_is_not_searched_and_goes_with_the_next_fix(check, tmp_path):
    (tmp_path / "run.yaml").write_text(BROKEN)
    assert _end(COMMANDS["fix"], signal.SIGKILL, tmp_path)[0] == -signal.SIGKILL
    (left,) = tmp_path.glob(".adalora-*.tmp")
    for searched in (tmp_path, f"{tmp_path}/**/*"):
        reports = json.loads(check(searched, "-o", "json")[1])["reports"]
        assert [each["source"] for each in reports] == [str(tmp_path / "run.yaml")]
    assert check("--fix", tmp_path)[0] == 0
    assert not left.exists()


def test_caller_in_python_keeps_its_handlers():
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert main(["rule", "ADA202"]) == 0
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["rule", "ADA202"])))
    thread.start()
    thread.join()
    assert codes == [0]
