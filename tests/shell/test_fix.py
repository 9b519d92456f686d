"""Test `adalora check` with `--fix`, `--unsafe-fixes` and `--diff`."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from adalora_core.checker.pipeline.inspection import Inspector
from adalora_core.commands.cli import main
from adalora_core.config.rules.base import SOUND

WRONG = json.dumps(SOUND | {"init_r": 12.0, "peft_type": "adalora"}, indent=2) + "\n"
RIGHT = json.dumps(SOUND, indent=2) + "\n"
LIKELY = json.dumps(SOUND | {"tinit": 100, "tfinal": 700})
MEANT = json.dumps(SOUND | {"tinit": 100, "tfinal": 300})


def test_fix_writes_the_file_and_reports_what_was_fixed(check, write):
    path = write(WRONG)
    code, out, err = check(path, "--fix")
    assert (code, err, path.read_text()) == (0, "", RIGHT)
    assert out == (
        "checked 1 configuration: 0 errors, 0 warnings\n"
        "fixed 2 findings in 1 file: ADA105, ADA106\n"
    )
    assert list(path.parent.iterdir()) == [path]


def test_check_without_fix_reports_what_could_be_fixed_and_writes_nothing(check, write):
    path = write(json.dumps(json.loads(WRONG) | {"tfinal": 700}))
    before = path.stat()
    _, out, _ = check(path)
    assert "fixable: 2 with --fix, 1 with --fix --unsafe-fixes\n" in out
    assert "  hint: write 12 [--fix]\n" in out
    assert ", write tfinal 300 [--fix --unsafe-fixes]\n" in out
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_fix_leaves_what_would_change_the_meaning_and_reports_it(check, write):
    path = write(LIKELY)
    code, out, _ = check(path, "--fix")
    assert (code, path.read_text()) == (0, LIKELY)  # only a warning
    assert "not fixed: 1 fixable with --unsafe-fixes\n" in out
    assert check(path, "--fix", "--unsafe-fixes")[0] == 0
    assert path.read_text() == MEANT


def test_unsafe_fixes_alone_exit_2(check, write):
    code, _, err = check(write(WRONG), "--unsafe-fixes")
    assert code == 2
    assert "--unsafe-fixes has no effect alone: add --fix or --diff" in err


@pytest.mark.parametrize("command", [["patch", "-p0", "--binary"], ["git", "apply", "-p0"]])
def test_difference_is_printed_and_other_tools_can_apply_it(
    check, write, tmp_path, monkeypatch, command
):
    if shutil.which(command[0]) is None:
        pytest.skip(f"would prove that {command[0]} takes the difference, but it is not installed")
    monkeypatch.chdir(tmp_path)
    write(WRONG.replace("\n", "\r\n").rstrip(), "a b.json")
    write("# c\n" + "\n" * 9 + "init_r: 12.0\npeft_type: adalora", "b.yaml")
    write("\ufeffpeft_type: adalora\ninit_r: 12\n", "mark.yaml")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, err = check("a b.json", "b.yaml", "mark.yaml", "--diff")
    assert code == 1
    assert err.startswith("would fix 5 findings in 3 files: 3 x ADA105, 2 x ADA106\nnot fixed: ")
    assert out.startswith("--- a b.json\t\n+++ a b.json\t\n@@ ")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    subprocess.run(command, input=out.encode(), check=True, capture_output=True)
    assert Path("a b.json").read_bytes() == RIGHT.replace("\n", "\r\n").rstrip().encode()
    assert Path("b.yaml").read_text() == "# c\n" + "\n" * 9 + "init_r: 12\npeft_type: ADALORA"
    assert Path("mark.yaml").read_text() == "\ufeffpeft_type: ADALORA\ninit_r: 12\n"


def test_difference_has_the_encoding_of_the_file(capsysbinary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        "# coding: latin-1\nfrom peft import AdaLoraConfig\nAdaLoraConfig(init_r=9.0, x='\xe9')\n"
    )
    Path("\xe9.py").write_bytes(code.encode("latin-1"))
    main(["check", "\xe9.py", "--diff"])
    out = capsysbinary.readouterr().out
    assert "+++ \xe9.py\n".encode() in out
    assert "+AdaLoraConfig(init_r=9, x='\xe9')\n".encode("latin-1") in out


def test_difference_of_nothing_exits_0_and_counts_unsafe_fixes_only_with_the_option(check, write):
    path = write(LIKELY)
    assert check(path, "--diff") == (0, "", "not fixed: 1 fixable with --unsafe-fixes\n")
    assert check(write(SOUND, "b.json"), "--diff") == (0, "", "would fix nothing\n")
    code, out, _ = check(path, "--diff", "--fix", "--unsafe-fixes")
    assert (code, path.read_text()) == (1, LIKELY)
    assert f"-{LIKELY}\n" in out


def test_mode_of_a_fixed_file_stays(check, write):
    path = write(WRONG)
    path.chmod(0o640)
    assert check(path, "--fix")[0] == 0
    assert path.read_text() == RIGHT
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="would prove that root leaves a file its owner; only root can give one away",
)
def test_owner_of_a_file_that_root_fixes_stays(check, write):
    path = write(WRONG)
    os.chown(path, 12345, 54321)
    assert check(path, "--fix")[0] == 0
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_read_only_file_exits_2_unchanged_and_the_others_are_fixed(check, write):
    path = write(WRONG, "a.json")
    path.chmod(0o444)
    other = write(WRONG, "b.json")
    code, out, err = check(path, other, "--fix")
    assert code == 2
    assert err == f"adalora check: {path}: not written: the file is read-only\n"
    assert (path.read_text(), other.read_text()) == (WRONG, RIGHT)
    assert "error[ADA106]" in out


@pytest.mark.parametrize("call", ["chmod", "replace"])
def test_failure_while_writing_exits_2_and_loses_nothing(check, write, monkeypatch, call):
    path = write(WRONG)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, call, full)
    code, _, err = check(path, "--fix")
    assert code == 2
    assert err == f"adalora check: {path}: not written: No space left on device\n"
    assert path.read_text() == WRONG
    assert list(path.parent.iterdir()) == [path]


def test_file_that_changes_meanwhile_is_left_as_it_is(check, write, monkeypatch):
    path = write(WRONG)
    fix = Inspector.fix

    def meanwhile(*arguments, **options):
        path.write_text("{}")
        return fix(*arguments, **options)

    monkeypatch.setattr(Inspector, "fix", meanwhile)
    code, _, err = check(path, "--fix")
    assert (code, path.read_text()) == (2, "{}")
    assert "changed while it was checked" in err


def _piped(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_standard_input_fixed_goes_to_standard_output_and_the_report_to_the_other(
    check, monkeypatch
):
    _piped(monkeypatch, b"\xef\xbb\xbf" + WRONG.replace("\n", "\r\n").encode())
    code, out, err = check("-", "--fix", "--ignore", "ADA004")
    assert code == 0
    assert out == "\ufeff" + RIGHT.replace("\n", "\r\n")
    assert "fixed 2 findings" in err


@pytest.mark.parametrize("content", [b'{"peft_type": ', b"\xff\xfe", b"[1]"])
def test_standard_input_that_cannot_be_read_passes_through(content):
    command = [sys.executable, "-m", "adalora_core", "check", "--fix", "-"]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, content)
    assert b"error[ADA0" in done.stderr


def test_standard_input_over_the_limit_passes_through_whole(check, monkeypatch):
    content = json.dumps({"x": "y" * 3000})
    _piped(monkeypatch, content.encode())
    code, out, err = check("-", "--fix", "--limit", "file-bytes=100")
    assert (code, out) == (1, content)
    assert "ADA005" in err
