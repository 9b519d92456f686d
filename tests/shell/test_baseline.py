"""Test `--add-ignores`: comments that suppress what is there, in every format that has comments."""

from __future__ import annotations

import ast
import io
import json
import tomllib
from pathlib import Path

import pytest
import yaml

from adalora_core.config.rules.base import SOUND

YAML = """\
# a comment
model: x
peft:
  peft_type: ADALORA  # kept
  init_r: 12
  target_r: 8
  target_modules: [q_proj]
  r: 4
  deltaT: 0   
  total_step: 1000
  tfinal: 200
"""  # noqa: W291 - blanks behind a value
TOML = """\
[peft]
peft_type = "ADALORA"
init_r = 12
target_r = 8
target_modules = ["q_proj"]
r = 4
deltaT = 0
total_step = 1000
tfinal = 200
"""
PYTHON = """\
#!/usr/bin/env python
# -*- coding: utf-8 -*-
from peft import AdaLoraConfig

config = AdaLoraConfig(
    init_r=12, target_r=8, target_modules=["q_proj"],
    r=4,
    deltaT=0,
    total_step=1000,
    tfinal=200,
)
"""
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": ["# é \\u00e9"]},
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
         "source": ["%%time\n", *PYTHON.splitlines(keepends=True)[2:-1], ")"]},
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
         "source": 'other = AdaLoraConfig(\n\tr=4, total_step=9,\n\ttfinal=20, note="\\"")'},
    ],
    "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
}  # fmt: skip


def _code(text):
    """Return the code of a notebook's cells, as Jupyter reads them."""
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return ["".join(cell["source"]).replace("%%time\n", "\n") for cell in cells]


READERS = {
    "a.yaml": (YAML, yaml.safe_load),
    "a.toml": (TOML, tomllib.loads),
    "a.py": (PYTHON, lambda text: ast.dump(ast.parse(text))),
    "a.ipynb": (
        json.dumps(NOTEBOOK, indent=1),
        lambda text: [ast.dump(ast.parse(code)) for code in _code(text)],
    ),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_check_is_clean_afterwards_and_the_values_stay(check, name, end):
    text, read = READERS[name]
    path = Path(name)
    path.write_bytes(text.replace("\n", end).encode())
    assert check(name, "--fail-level", "info")[0] == 1
    code, out, err = check(name, "--add-ignores", "--fail-level", "info")
    assert code == 0
    assert out.startswith("checked 1 configuration: 0 errors, 0 warnings; suppressed ")
    assert err.startswith("added ignores for ")
    written = path.read_bytes().decode()
    assert read(written) == read(text)
    assert written.count("\n") == written.count(end)
    assert "# adalora: ignore[" in written
    assert check(name, "--fail-level", "info")[0] == 0
    # A second time there is nothing to add.
    before = path.stat()
    _, _, err = check(name, "--add-ignores")
    assert err == "added ignores for 0 findings in 0 files\n"
    assert (path.read_bytes().decode(), path.stat().st_ino) == (written, before.st_ino)


def test_comments_are_written_behind_the_lines_and_nothing_else_changes(check):
    Path("a.yaml").write_text(YAML)
    check("a.yaml", "--add-ignores")
    lines = Path("a.yaml").read_text().splitlines()
    changed = [(a, b) for a, b in zip(YAML.splitlines(), lines, strict=True) if a != b]
    assert changed == [
        ("  r: 4", "  r: 4  # adalora: ignore[ADA303]"),
        ("  deltaT: 0   ", "  deltaT: 0  # adalora: ignore[ADA204]   "),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("r: 4  # why", "r: 4  # why  # adalora: ignore[ADA303]"),
        ("r: 4 # adalora: ignore[ADA204]", "r: 4 # adalora: ignore[ADA204, ADA303]"),
        ("# adalora: ignore[ADA204] x\nr: 4", "# adalora: ignore[ADA204, ADA303] x\nr: 4"),
        ("# adalora: ignore-file[ADA204]\nr: 4",
         "# adalora: ignore-file[ADA204]\nr: 4  # adalora: ignore[ADA303]"),
        ("r: 4  # adalora: ignore", "r: 4  # adalora: ignore  # adalora: ignore[ADA303]"),
    ],
)  # fmt: skip
def test_code_joins_the_request_that_is_there(check, line, expected):
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in SOUND.items())
    Path("a.yaml").write_text(f"{text}{line}\n")
    check("a.yaml", "--add-ignores", "--select", "ADA303")
    assert Path("a.yaml").read_text() == f"{text}{expected}\n"


AWKWARD = {
    # A comment behind the line would be inside of the string, or break the joined lines.
    "a string of several lines": (
        "a.py", ('from peft import AdaLoraConfig\nc = AdaLoraConfig(r=4, runtime_config="""a\n'
        'b""", init_r=12, target_r=8, total_step=9, tfinal=2)\n'),
    ),
    "joined lines": (
        "a.py", ("from peft import AdaLoraConfig\nif True:\n    c = \\\n        AdaLoraConfig(r=4, "
        "total_step=\\\n  9, tfinal=20)\n"),
    ),
    "a folded scalar": (
        "a.yaml", "peft_type: ADALORA\nbias: >\n  none\n\n\ntotal_step: 9\nr: 4\n",
    ),
    "a scalar of several lines": (
        "a.yaml", "peft_type: ADALORA\nbias: no\n  ne\ntarget_modules: 'a\n  b'\ntotal_step: 9\n",
    ),
    "one line of flow": ("a.yaml", "{peft_type: ADALORA, total_step: 9, tfinal: 20, r: 4}"),
    "several documents' marks": (
        "a.yaml", "%YAML 1.1\n---\npeft_type: ADALORA\ntotal_step: 9\ntfinal: 20\n...\n",
    ),
    "anchors": (
        "a.yaml", "base: &b {peft_type: ADALORA, total_step: 9, tfinal: 20}\nx: *b\ny: *b\n",
    ),
    "tabs and a mark": (
        "a.py", "\ufefffrom peft import AdaLoraConfig\ndef f():\n\treturn AdaLoraConfig(r=4)",
    ),
    "a TOML string of several lines": (
        "a.toml", 'peft_type = "ADALORA"\nbias = """\nx\n"""\ntotal_step = 9\ntfinal = 20\n',
    ),
    "a hash in a string": (
        "a.py", ("from peft import AdaLoraConfig\nc = AdaLoraConfig(total_step=9,"
        " bias='# adalora: ignore[ADA105]')\n"),
    ),
    "a loop": (
        "a.py", ("from peft import AdaLoraConfig, get_peft_model\nmodel = get_peft_model(base, "
        "AdaLoraConfig(total_step=9, tfinal=3, tinit=2))\nfor batch in data:\n"
        "    model(batch).loss.backward()\n    optimizer.step()\n"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), AWKWARD.values(), ids=AWKWARD)
def test_awkward_text_keeps_its_values_and_is_clean(check, name, text):
    read = {**{n: r for n, (_, r) in READERS.items()}, "a.yaml": lambda t: [*yaml.safe_load_all(t)]}
    Path(name).write_bytes(text.encode())
    assert check(name, "--fail-level", "info")[0] == 1
    code, out, _ = check(name, "--add-ignores", "--fail-level", "info")
    written = Path(name).read_bytes().decode()
    assert read[name](written.lstrip("\ufeff")) == read[name](text.lstrip("\ufeff")), written
    assert code == 0, out
    assert check(name, "--fail-level", "info")[0] == 0
    assert check(name, "--add-ignores")[2].startswith("added ignores for 0 findings")


def test_finding_that_cannot_be_suppressed_is_left(check):
    Path("a.yaml").write_text("peft_type: ADALORA\ntotal_step: [\n")
    before = Path("a.yaml").read_text()
    code, out, err = check("a.yaml", "--add-ignores")
    assert (code, "ADA001" in out) == (1, True)
    assert err == "added ignores for 0 findings in 0 files\n"
    assert Path("a.yaml").read_text() == before


def test_json_is_not_changed_and_the_settings_to_add_are_printed(check, monkeypatch):
    for name in ("runs/a.json", "runs/[b].json", "c.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(json.dumps(SOUND | {"deltaT": 0, "r": 4}))
    Path("pyproject.toml").write_text("[project]\nname = 'x'\n")
    monkeypatch.chdir("runs")
    code, out, err = check("..", "--add-ignores")
    assert code == 1
    assert out.count("error[ADA204]") == 2
    first, told, *table = err.splitlines()
    assert first == "added ignores for 2 findings in 1 file"
    file = Path.cwd().parent / "pyproject.toml"
    assert told == f"JSON has no comments; to ignore these findings, write this table to {file}:"
    assert tomllib.loads("\n".join(table))["tool"]["adalora"]["per-file-ignores"] == {
        "./runs/a.json": ["ADA204", "ADA303"],
        "./runs/[[]b].json": ["ADA204", "ADA303"],
    }
    # What is printed does what it promises, and for these files only.
    with file.open("a") as settings:
        settings.write("\n".join(table) + "\n")
    assert check("..", "--fail-level", "info")[0] == 0
    Path("other").mkdir()
    Path("other", "a.json").write_text(json.dumps(SOUND | {"deltaT": 0}))
    assert check("..")[0] == 1


def test_ignored_and_unselected_findings_get_no_comment(check):
    Path("a.yaml").write_text(YAML)
    check("a.yaml", "--add-ignores", "--ignore", "ADA303")
    assert "ADA303" not in Path("a.yaml").read_text()
    assert "ADA204" in Path("a.yaml").read_text()


def test_standard_input_is_printed_with_comments(check, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(YAML.encode()))
    monkeypatch.setattr("sys.stdin", stream)
    code, out, err = check("-", "--stdin-filename", "a.yaml", "--add-ignores")
    assert code == 0
    assert "  r: 4  # adalora: ignore[ADA303]\n" in out
    assert "suppressed 2 findings" in err


def test_read_only_file_is_not_changed(check):
    path = Path("a.yaml")
    path.write_text(YAML)
    path.chmod(0o444)
    code, _, err = check(path, "--add-ignores")
    assert (code, path.read_text()) == (2, YAML)
    assert err.startswith("adalora check: a.yaml: not written: the file is read-only\n")
    assert "added ignores for 0 findings in 0 files" in err


def test_link_out_of_the_tree_is_not_written_through(check, tmp_path):
    (tmp_path / "a.yaml").write_text(YAML)
    Path("link.yaml").symlink_to(tmp_path / "a.yaml")
    for option in ([], ["--follow-links"]):
        assert check("link.yaml", "--add-ignores", *option)[0] == 2
        assert (tmp_path / "a.yaml").read_text() == YAML


def test_quiet_baseline_prints_nothing(check):
    Path("a.yaml").write_text(YAML)
    assert check("a.yaml", "--add-ignores", "-q") == (0, "", "")


@pytest.mark.slow
def test_scripts_after_public_ones_are_clean_with_comments(check):
    """The judge is Python: the code is the same, but for comments."""
    tests = Path(__file__).parents[1]
    scripts = sorted(tests.glob("usage/corpus*/*.py"))
    assert len(scripts) > 100
    for script in scripts:
        path = Path("script.py")
        path.write_bytes(script.read_bytes())
        options = (path, "--ignore-unmatched", "--fail-level", "info")
        assert check(*options, "--add-ignores", "--allow-empty")[0] == 0, script
        assert check(*options, "--allow-empty")[0] == 0, script
        old, new = (ast.dump(ast.parse(each.read_bytes())) for each in (script, path))
        assert old == new, script
