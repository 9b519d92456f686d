"""Settings of the checked tree are shown, and can be replaced by those of a trusted file."""

from __future__ import annotations

import json
import re

import pytest

from adalora_core.config.rules.base import SOUND

WEAK = """\
[tool.adalora]
exit-zero = true
exclude = ["bad.json", "sub/*"]
limit = ["diagnostics=1"]
policy = "policies/p.json"
peft-version = "0.17"

[tool.adalora.per-file-ignores]
"*.json" = ["ADA204"]
"""
SHOWN = (
    'settings of pyproject.toml: exclude = ["bad.json", "sub/*"], exit-zero = true, '
    'limit = ["diagnostics=1"], peft-version = "0.17", '
    'per-file-ignores = {"*.json": ["ADA204"]}, policy = "policies/p.json"\n'
)


@pytest.fixture
def weakened(confined):
    wrong = json.dumps(SOUND | {"deltaT": 0})
    confined.write({
        "pyproject.toml": WEAK, "policies/p.json": "{}", "bad.json": wrong, "other.json": wrong,
        "sub/bad.json": wrong,
    })  # fmt: skip
    return confined


@pytest.mark.parametrize("format_", ["full", "concise", "github"])
def test_settings_are_one_line_of_a_report_for_people(weakened, format_):
    done = weakened.run("check", ".", "-o", format_)
    assert (done.returncode, done.stdout.count(SHOWN)) == (0, 1)
    if format_ == "full":
        assert "settings" not in weakened.run("check", ".", "--isolated").stdout


def test_settings_are_in_the_json_report(weakened):
    assert SHOWN in weakened.run("check", ".", "--diff").stderr
    found = json.loads(weakened.run("check", ".", "-o", "json").stdout)["settings"]
    assert found["file"] == "pyproject.toml"
    assert found["values"]["exclude"] == ["bad.json", "sub/*"]
    isolated = weakened.run("check", ".", "-o", "json", "--isolated")
    assert json.loads(isolated.stdout)["settings"] == {"file": None, "values": {}}


def test_no_setting_hides_the_others_by_its_length(weakened):
    long = json.dumps(["a" * 2500] * 8)
    weakened.write({"pyproject.toml": f"[tool.adalora]\nexclude = {long}\nexit-zero = true\n"})
    (line,) = (
        each
        for each in weakened.run("check", "other.json").stdout.splitlines()
        if each.startswith("settings")
    )
    assert line.endswith("exit-zero = true")
    assert len(line) < 300


def test_settings_of_another_file_replace_those_of_the_tree(weakened):
    base = weakened.outside / "base"
    (base / "policies").mkdir(parents=True)
    (base / "policies/p.json").write_text('{"required": ["revision"]}')
    settings = base / "pyproject.toml"
    settings.write_text('[tool.adalora]\npolicy = "policies/p.json"\nexclude = ["sub/*"]\n')
    for option in ("--settings", "--setting"):
        done = weakened.run("check", ".", option, settings, "-o", "concise")
        assert done.returncode == 1
        assert "\nbad.json:" in f"\n{done.stdout}"
        assert "sub/bad.json" not in done.stdout
        assert "`revision` is required" in done.stdout
        assert f"settings of {settings}: exclude = " in done.stdout


def test_settings_raise_no_limit(weakened):
    for limit in ("file-bytes=4194305", "depth=65", "memory-bytes=1073741825"):
        weakened.write({"pyproject.toml": f"[tool.adalora]\nlimit = ['{limit}']\n"})
        done = weakened.run("check", "other.json")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert f"a file of settings may lower {limit.split('=')[0]}, which" in done.stderr
    assert weakened.run("check", "other.json", "--isolated", "--limit", limit).returncode == 1
    weakened.write({"pyproject.toml": "[tool.adalora]\nlimit = ['depth=63', 'nodes=9']\n"})
    assert weakened.run("check", "other.json").returncode == 1


@pytest.mark.slow
def test_patterns_that_take_too_long_end_the_command(weakened):
    patterns = json.dumps(["*a" * 30 + f"b{number}" for number in range(20_000)])
    weakened.write({"a" * 200 + ".json": "{}"})
    weakened.write({"pyproject.toml": f"[tool.adalora]\nexclude = {patterns}\n"})
    done = weakened.run("check", "--limit", "processor-seconds=1", ".")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("adalora check: the command needs more than 1 s of processor")


def test_settings_of_a_file_that_is_missing_end_the_run(weakened):
    done = weakened.run("check", ".", "--settings", "none.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.toml: No such file" in done.stderr


def test_ignore_files_of_other_tools_have_no_influence(weakened):
    names = (".ignore", ".adaloraignore", ".dockerignore", ".git/info/exclude")
    weakened.write(dict.fromkeys(names, "*.json\n"))
    done = weakened.run("check", ".", "--isolated", "-o", "concise")
    assert all(f"\n{name}:" in f"\n{done.stdout}" for name in ("bad.json", "other.json"))


def test_what_hides_findings_is_shown_whole_or_counted(weakened):
    ignores = {f"configs/model-{number:02}/run.json": ["ADA204"] for number in range(12)}
    table = "".join(f"{json.dumps(name)} = {json.dumps(each)}\n" for name, each in ignores.items())
    settings = f"[tool.adalora.per-file-ignores]\n{table}"
    weakened.write({"pyproject.toml": settings})
    out = weakened.run("check", "other.json").stdout
    shown = json.dumps(dict(list(ignores.items())[:7]))
    assert f"settings of pyproject.toml: per-file-ignores = {shown} and 5 more\n" in out
    names = json.dumps([f"{number:03}" * 10 for number in range(100)])
    weakened.write({"pyproject.toml": f"[tool.adalora]\nexclude = {names}\n"})
    out = weakened.run("check", "other.json").stdout
    assert '"] and 91 more\n' in out
    weakened.write({"pyproject.toml": f"[tool.adalora]\nexclude = ['{'*' * 3000}bad.json']\n"})
    out = weakened.run("check", "other.json").stdout
    assert re.search(r'exclude = \["\*+\.\.\.\*+bad\.json"\]\n', out)
