"""One bad file never ends the run: an error or a finding for it, and the report on all others."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from adalora_core.checker.pipeline.inspection import Inspector
from adalora_core.commands.cli import main
from adalora_core.config.rules.base import SOUND

GOOD = json.dumps(SOUND)
DEEP = 100_000
DIGITS = 20_000

CONTENTS = {
    "sexagesimal.yaml": "peft_type: ADALORA\ninit_r: 1" + ":59" * DIGITS + "\n",
    "sexagesimal-float.yaml": "peft_type: ADALORA\nlora_dropout: 1" + ":59" * DIGITS + ".5\n",
    "octal.yaml": "peft_type: ADALORA\ninit_r: 0" + "7" * DIGITS + "\n",
    "hexadecimal.yaml": "peft_type: ADALORA\ninit_r: 0x" + "f" * DIGITS + "\n",
    "binary.yaml": "peft_type: ADALORA\ninit_r: 0b" + "1" * DIGITS + "\n",
    "key.yaml": "peft_type: ADALORA\n0x" + "f" * DIGITS + ": 1\n",
    "tagged.yaml": "peft_type: ADALORA\ninit_r: !!int 0" + "7" * DIGITS + "\n",
    "date.yaml": "peft_type: ADALORA\nrevision: 9999-12-31T23:59:59-23:59\n",
    "early.yaml": "peft_type: ADALORA\nrevision: 0001-01-01T00:00:00+23:59\n",
    "base64.yaml": "peft_type: ADALORA\nrevision: !!binary '\u00e9'\n",
    "hexadecimal.toml": "peft_type = 'ADALORA'\ninit_r = 0x" + "f" * DIGITS + "\n",
    "octal.toml": "peft_type = 'ADALORA'\ninit_r = [0o" + "7" * DIGITS + "]\n",
    "date.toml": "peft_type = 'ADALORA'\nrevision = 9999-12-31T23:59:59-23:59\n",
    "offset.toml": "peft_type = 'ADALORA'\nrevision = 2020-01-01T00:00:00+24:00\n",
    "exponent.json": '{"peft_type": "ADALORA", "init_r": 1e999999, "r": -1e-999999}',
    "version.json": '{"peft_type": "ADALORA", "peft_version": "0.' + "9" * DIGITS + '"}',
    "empty-key.json": '{"peft_type": "ADALORA", "": {"": ""}}',
}


def _sources(done):
    return {Path(report["source"]).name for report in json.loads(done.stdout)["reports"]}


def test_every_file_is_reported_beside_bad_ones(confined):
    confined.write(CONTENTS | {"a-good.json": GOOD, "z-good.yaml": GOOD})
    done = confined.run("check", ".", "-o", "json")
    assert _sources(done) == {*CONTENTS, "a-good.json", "z-good.yaml"}
    # Content is a finding, not a reason to give up.
    assert (done.returncode, done.stderr) == (1, "")


def test_huge_number_is_named_in_a_short_message(confined):
    names = ["sexagesimal.yaml", "octal.yaml", "hexadecimal.toml"]
    confined.write({name: CONTENTS[name] for name in names})
    done = confined.run("check", *names)
    assert done.stdout.count("an integer has too many digits") == len(names)
    assert len(done.stdout) < 3000


@pytest.mark.parametrize(
    ("settings", "phrase"),
    [
        ("[tool.adalora]\nx = " + "[" * DEEP, "nested deeper"),
        ("x = 0x" + "f" * DIGITS + "\n[tool.adalora]\nexit-zero = true\n", "too many digits"),
    ],
)
def test_settings_beyond_the_limits_are_not_used_and_every_file_is_reported(
    confined, settings, phrase
):
    confined.write(
        {"pyproject.toml": settings, "bad.json": '{"peft_type": "ADALORA", "deltaT": 0}'}
    )
    done = confined.run("check", "bad.json", "-o", "json")
    assert (done.returncode, _sources(done)) == (2, {"bad.json"})
    assert re.fullmatch(r"adalora check: .*pyproject\.toml: .*\n", done.stderr)
    assert phrase in done.stderr
    assert confined.run("check", "bad.json", "--isolated").returncode == 1


@pytest.mark.parametrize(
    "policy",
    [{"dependentSchemas": {"tfinal": False}}, {"allOf": [False]}, {"if": True, "then": False}],
)
def test_policy_with_a_schema_that_is_false_is_applied(confined, policy):
    confined.write({"p.json": json.dumps(policy), "a-good.json": GOOD})
    done = confined.run("check", "a-good.json", "--policy", "p.json", "-o", "concise")
    assert (done.returncode, done.stderr) == (1, "")
    assert "error[ADA010] the policy refuses this" in done.stdout


NOT_A_SCHEMA = "a part of the policy is not a schema, or not for these values"


@pytest.mark.parametrize(
    ("policy", "phrase"),
    [
        ({"$ref": "#/default", "default": {"properties": [1]}}, NOT_A_SCHEMA),
        ({"properties": {"init_r": {"$ref": "#/x-y"}}, "x-y": [1]}, NOT_A_SCHEMA),
        ({"properties": {"init_r": {"$ref": "#/x-y"}}, "x-y": {"minimum": "a"}}, NOT_A_SCHEMA),
        ({"$ref": "#/x-y", "x-y": {"type": "foo"}}, NOT_A_SCHEMA),
        ({"$ref": "#/x-y/abc", "x-y": [{}]}, NOT_A_SCHEMA),
        ({"$id": "http://[::1"}, "an address or a part of the schema cannot be read"),
        (
            {"$schema": "http://json-schema.org/draft-03/schema#", "extends": {"$ref": "#/x"}},
            "an address or a part of the schema cannot be read",
        ),
        (
            {"allOf": [{"$schema": "http://json-schema.org/draft-03/schema#", "disallow": 3}]},
            NOT_A_SCHEMA,
        ),
    ],
)
def test_policy_that_cannot_be_followed_is_one_line(tmp_path, monkeypatch, capsys, policy, phrase):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.json").write_text(json.dumps(policy))
    (tmp_path / "a-good.json").write_text(GOOD)
    assert main(["check", "a-good.json", "--policy", "p.json"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"adalora check: p.json: {phrase}")


def test_fault_of_the_check_itself_is_an_error_line_and_the_others_are_reported(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "a.json").write_text(GOOD)
    (tmp_path / "b.json").write_text(GOOD)
    inspect = Inspector.inspect

    def fail_once(self, raw, name, **options):
        if name.endswith("a.json"):
            raise OverflowError("\x1b[2J")
        return inspect(self, raw, name, **options)

    monkeypatch.setattr(Inspector, "inspect", fail_once)
    assert main(["check", "--isolated", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "checked 1 configuration: 0 errors, 0 warnings\n"
    line = f"adalora check: {tmp_path}/a.json: not checked: OverflowError('\\x1b[2J')\n"
    assert shown.err == line


def test_names_and_kinds_of_files_that_cannot_be_read_are_one_line_each(confined):
    confined.write({"a-good.json": GOOD, "z-good.json": GOOD, "x.json/inner.json": GOOD})
    os.mkfifo(confined.tree / "y.json")
    with open(os.fsencode(confined.tree) + b"/\xff\x1b[2J.json", "w") as file:  # noqa: PTH123
        file.write("{")  # a name that is not UTF-8
    done = confined.run("check", ".", "-o", "json")
    assert _sources(done) == {"a-good.json", "z-good.json", "inner.json"}
    assert (done.returncode, done.stderr) == (2, "adalora check: y.json: Not a regular file\n")


@pytest.mark.slow
@pytest.mark.parametrize("call", [".", "--follow-links .", "**/*.json", "./**/*.json"])
@pytest.mark.parametrize("name", ["d", "["])
def test_folders_of_any_depth_are_searched(confined, call, name):
    confined.write({"a-good.json": GOOD, ".git/HEAD": "", ".gitignore": "x\n"})
    path = str(confined.tree)
    for _ in range(1900 if "follow" in call else 1200):
        path += f"/{name}"
        os.mkdir(path)  # noqa: PTH102 - faster
    Path(path, "z.json").write_text(GOOD)
    try:
        done = confined.run("check", *call.split(), "-o", "concise")
    finally:  # Python deletes no tree of this depth
        subprocess.run(["rm", "-rf", f"{confined.tree}/{name}"], check=True)  # noqa: S607 - ours
    assert (done.returncode, done.stderr) == (0, "")
    assert "checked 2 configurations" in done.stdout


def test_closed_file_and_closed_folder_are_one_line_each(confined):
    confined.write({"good.json": GOOD, "closed.json": GOOD, "closed/inner.json": GOOD})
    for name in ("closed.json", "closed"):
        (confined.tree / name).chmod(0)
    confined.may_read_all = False
    done = confined.run("check", ".", "-o", "json")
    (confined.tree / "closed").chmod(0o700)
    assert _sources(done) == {"good.json"}
    assert done.returncode == 2
    assert sorted(done.stderr.splitlines()) == [
        "adalora check: closed.json: Permission denied",
        "adalora check: closed: Permission denied",
    ]
