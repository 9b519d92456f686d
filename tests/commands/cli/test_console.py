"""Test output: several reports, whole files, closed pipes, terminals without Unicode."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest

from adalora_core.config.rules.base import SOUND

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
    folder = tmp_path / "no"
    assert f"--output-file json={folder / 'a.json'}: the folder '{folder}' does not exist" in err
    assert len(err.splitlines()) == 1
    _, _, err = check(write(BAD), "--output-file", f"json={tmp_path}")
    assert err == f"adalora check: {tmp_path}: Is a directory\n"


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


def test_terminal_without_colours_gets_none(check, write, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    path = write(BAD)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" in check(path)[1]
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in check(path)[1]


def test_messages_wrap_to_the_terminal_and_to_nothing_else(check, write, monkeypatch):
    path = write(BAD)
    plain = check(path)[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    wrapped = check(path)[1]
    assert wrapped.split() == plain.split()
    is_shown_whole = re.compile(r"  --> | *\d* \||        ")
    assert all(len(each) <= 40 or is_shown_whole.match(each) for each in wrapped.splitlines())
    assert wrapped.count("\n") > plain.count("\n") + 1


def _shell(command, cwd):
    """Run `adalora` from a shell, as `adalora` is named there."""
    line = command.replace("adalora ", f"{shlex.quote(sys.executable)} -m adalora_core ", 1)
    return subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {line}"],
        cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command", ["rule", "explain does not support DoRA", "schema", "env", "--help"]
)
def test_reader_of_any_command_may_go_away(command, tmp_path):
    result = _shell(f"adalora {command} | true", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("command", ["check bad.json", "check --diff bad.json", "schema", "rule"])
def test_full_disk_behind_standard_output_exits_2_with_one_line(command, write, tmp_path):
    write(SOUND | {"peft_type": "adalora"}, "bad.json")
    result = _shell(f"adalora {command} >/dev/full", tmp_path)
    assert result.returncode == 2
    assert result.stderr.endswith("<stdout>: No space left on device\n")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("check bad.json >&-", 1),
        ("check - <&-", 2),
        ("rule >&-", 0),
        ("check --diff bad.json >&-", 1),
    ],
)
def test_stream_that_is_closed_leaves_no_traceback(command, code, write, tmp_path):
    write(SOUND | {"peft_type": "adalora"}, "bad.json")
    result = _shell(f"adalora {command}", tmp_path)
    assert (result.returncode, "Traceback" in result.stderr) == (code, False)


def test_interrupted_command_exits_130_without_a_traceback(check, write, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("adalora_core.commands.cli.check_job.targets", interrupt)
    assert check(write(SOUND)) == (130, "", "adalora check: interrupted\n")
