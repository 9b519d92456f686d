"""The pre-commit hooks, run by pre-commit from a clone on a machine without a compiler."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys

import pytest

from adalora_core.config.rules.base import SOUND

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("pre_commit") is None or shutil.which("git") is None,
        reason="pre-commit or git is missing; would have shown that the hooks work",
    ),
]

TRAINER = """\
model: some/model
peft:
  peft_type: ADALORA
  target_modules: [q_proj]
  init_r: 4
  target_r: 8
  tfinal: 100
  total_step: 1000
"""
FILES = {
    "adapter/adapter_config.json": json.dumps(SOUND),
    "lora/adapter_config.json": '{"peft_type": "LORA", "r": 8, "target_modules": ["q"]}',
    "train.yaml": TRAINER,
    "other.json": "// a comment, as other tools take it",
    "notes.txt": "peft_type: ADALORA",
}
IDENTITY = {
    f"GIT_{who}_{what}": "test"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
} | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}  # fmt: skip


@pytest.fixture
def git(must_run):
    """Runs git in a folder, apart from the settings of this machine."""

    def run(folder, *arguments):
        return must_run("git", "-C", folder, *arguments, **IDENTITY)

    return run


@pytest.fixture
def clone(source_tree, git, tmp_path):
    tree = tmp_path / "clone"
    shutil.copytree(source_tree, tree)
    git(tree, "init", "--quiet")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "all")
    return tree


@pytest.fixture
def project(git, tmp_path):
    folder = tmp_path / "project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    return folder


def test_hooks_tried_on_a_project_report_its_fault_and_pass_what_is_sound(
    clone, project, run_command, tmp_path
):
    # A compiler that is not there: building the core would fail.
    no_compiler = {"CC": str(tmp_path / "none"), "CXX": str(tmp_path / "none")}
    done = run_command(
        sys.executable, "-m", "pre_commit", "try-repo", clone,
        "--all-files", "--color=never", "--verbose", folder=project,
        PRE_COMMIT_HOME=str(tmp_path / "home"), **no_compiler, **IDENTITY,
    )  # fmt: skip
    shown = done.stdout + done.stderr
    assert done.returncode == 1, shown
    named, everywhere = shown.split("- hook id: ")[-2:]
    assert named.startswith("adalora-check\n")
    assert "checked 2 configurations: 0 errors, 0 warnings\n" in named
    assert everywhere.startswith("adalora-check-all\n")
    assert "train.yaml:6:13 (/peft/target_r)" in everywhere
    assert "ADA301" in everywhere
    assert "1 error" in everywhere
    assert "notes.txt" not in shown.split("=" * 79)[-1]


CONFIGURATION = """\
repos:
  - repo: {repo}
    rev: {rev}
    hooks:
      - id: adalora-check-all
        name: default
      - id: adalora-check-all
        name: closed
        args: [--fail-level, warning, --]
      - id: adalora-check-all
        name: open
        args: [--fail-level, warning]
"""


def test_names_of_committed_files_are_not_options_of_a_hook(clone, git, run_command, tmp_path):
    folder = tmp_path / "hostile"
    folder.mkdir()
    wrong = json.dumps(SOUND | {"deltaT": 0})
    names = ("--exclude=bad.json", "--output-file=json=x.json", "--exit-zero.json")
    texts = dict.fromkeys(names, "{}") | {"bad.json": wrong, "x.json": json.dumps(SOUND)}
    rev = git(clone, "rev-parse", "HEAD").strip()
    texts[".pre-commit-config.yaml"] = CONFIGURATION.format(repo=clone, rev=rev)
    # A Python of the checkout would run this.
    texts["adalora_core.py"] = "raise SystemExit('imported')\n"
    for name, text in texts.items():
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    done = run_command(
        sys.executable, "-I", "-m", "pre_commit", "run", "--all-files", "--color=never",
        folder=folder,
        PRE_COMMIT_HOME=str(tmp_path / "home"), PYTHONPATH=".", **IDENTITY,
    )  # fmt: skip
    shown = done.stdout + done.stderr
    parts = re.split(r"^(?:default|closed|open)\.{3}", shown, flags=re.MULTILINE)
    _, default, closed, open_ = parts
    for part in (default, closed):
        assert "bad.json:1:" in part
        assert "ADA204" in part
    assert "write args: [..., --]" in open_
    assert (folder / "x.json").read_text() == texts["x.json"]
    assert "imported" not in shown
