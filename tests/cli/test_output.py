"""Where reports go: several outputs, whole files, closed pipes, narrow terminals."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from adalora_core.cli.output import write_file
from adalora_core.contract.rule import SOUND

BAD = SOUND | {"deltaT": 0}


def test_several_outputs_in_one_run(check, write, tmp_path):
    code, out, _ = check(
        write(BAD), "--output-file", f"sarif={tmp_path / 'a.sarif'}",
        "--output-file", f"json={tmp_path / 'b.json'}", "--color", "always",
        "--output-file", f"full={tmp_path / 'c.txt'}",
    )  # fmt: skip
    assert code == 1
    assert "\x1b[31;1merror[ADA204]" in out
    assert json.loads((tmp_path / "a.sarif").read_text())["version"] == "2.1.0"
    assert json.loads((tmp_path / "b.json").read_text())["summary"]["errors"] == 1
    assert "\x1b" not in (tmp_path / "c.txt").read_text()


@pytest.mark.parametrize("setting", ["sarif", "xml=a", "json="])
def test_output_file_that_is_not_format_and_file_exits_2(check, write, setting):
    code, _, err = check(write(SOUND), "--output-file", setting)
    assert code == 2
    assert "expected FORMAT=FILE" in err


def test_output_file_that_cannot_be_written_exits_2_after_the_report(check, write, tmp_path):
    code, out, err = check(write(BAD), "--output-file", f"json={tmp_path / 'no' / 'a.json'}")
    assert code == 2
    assert "ADA204" in out
    assert str(tmp_path / "no") in err


def test_file_written_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_file(path, b"old\n")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.umask", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new\n")
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def _command(arguments, **options):
    command = [sys.executable, "-m", "adalora_core", "check", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_reader_that_goes_away_leaves_no_traceback(write, tmp_path):
    for index in range(300):
        write(BAD, f"many/{index}.json")
    process = _command([tmp_path / "many"])
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_terminal_that_cannot_show_a_character_gets_its_escape(write):
    path = write(json.dumps(SOUND | {"schlüssel": 1}, ensure_ascii=False))
    process = _command([path], env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin"})
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"schl\\xfcssel" in out


def test_colour_follows_the_environment(check, write, monkeypatch):
    path = write(BAD)
    assert "\x1b" not in check(path)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" in check(path)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in check(path)[1]
    assert "\x1b" in check(path, "--color", "always")[1]
