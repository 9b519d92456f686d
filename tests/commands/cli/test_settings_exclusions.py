"""Searching a folder leaves out what ignore files match, and never what a user names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adalora_core.commands.cli.files import targets
from adalora_core.config.rules.base import SOUND

ROOT = Path(__file__).parents[3]
FAULTY = json.dumps(SOUND | {"deltaT": 0})


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository in which `write` makes files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def _checked(check, *arguments):
    _, out, _ = check(*(arguments or (".",)), "-o", "json")
    found = json.loads(out) if out else {"reports": [], "summary": {"left_out": 0}}
    return {report["source"] for report in found["reports"]}, found["summary"]["left_out"]


def test_ignored_files_and_folders_are_left_out_and_counted(check, tree):
    tree({".gitignore": "out/\n*.tmp.json\n!keep.tmp.json\n", "out/a.json": FAULTY,
          "b.tmp.json": FAULTY, "keep.tmp.json": FAULTY, "c.json": FAULTY})  # fmt: skip
    assert _checked(check) == ({"keep.tmp.json", "c.json"}, 2)
    summary = check(".")[1]
    assert "left out 1 file ignored by git, 1 folder ignored by git" in summary


def test_all_files_leaves_out_nothing(check, tree):
    tree({".gitignore": "out/\n", "out/a.json": FAULTY, "node_modules/m/b.json": FAULTY})
    assert _checked(check, ".", "--all-files") == ({"out/a.json", "node_modules/m/b.json"}, 0)


def test_hidden_folder_is_counted_and_searched_on_request(check, tree):
    tree({".cfg/run.json": FAULTY, "c.json": FAULTY})
    assert _checked(check) == ({"c.json"}, 1)
    assert "left out 1 folder hidden by a dot" in check(".")[1]
    assert _checked(check, ".", "--follow-links") == ({"c.json"}, 1)
    assert _checked(check, ".", "--all-files") == ({".cfg/run.json", "c.json"}, 0)


def test_folder_is_searched_if_it_is_named_although_git_ignores_it(check, tree):
    tree({".gitignore": "out/\n", "out/run/a.json": FAULTY, "out/run/.gitignore": "b.json\n",
          "out/run/b.json": FAULTY})  # fmt: skip
    assert _checked(check, "out") == ({"out/run/a.json"}, 1)
    assert _checked(check, "out/run") == ({"out/run/a.json"}, 1)


def test_run_that_leaves_out_everything_checked_nothing(check, tree):
    tree({".gitignore": "*.json\n", "a.json": FAULTY})
    code, _, err = check(".")
    assert code == 2
    assert "left out 1 file ignored by git: pass --all-files" in err
    assert check(".", "--all-files")[0] == 1


def test_what_two_arguments_leave_out_is_counted_once_and_never_if_it_is_named(check, tree):
    tree({".gitignore": "/sub/out/\nb.json\n", "sub/out/a.json": FAULTY, "b.json": FAULTY,
          "c.json": FAULTY})  # fmt: skip
    assert _checked(check, ".", "sub", ".")[1] == 2
    assert _checked(check, ".", "b.json") == ({"b.json", "c.json"}, 1)


def test_named_file_and_pattern_are_checked_although_ignored(check, tree):
    tree({".gitignore": "*.json\n", "a.json": FAULTY, "b.json": FAULTY})
    assert _checked(check, "a.json")[0] == {"a.json"}
    assert _checked(check, "*.json")[0] == {"a.json", "b.json"}


def test_ignore_file_above_the_searched_folder_counts(check, tree):
    tree({".gitignore": "/sub/out/\n", "sub/out/a.json": FAULTY, "sub/b.json": FAULTY})
    assert _checked(check, "sub") == ({"sub/b.json"}, 1)


def test_ignore_file_applies_below_its_folder_and_the_innermost_one_decides(check, tree):
    tree({".gitignore": "*.tmp.json\n", "sub/.gitignore": "!a.tmp.json\n/b.json\n",
          "sub/a.tmp.json": FAULTY, "sub/b.json": FAULTY, "sub/in/b.json": FAULTY,
          "b.tmp.json": FAULTY, "b.json": FAULTY})  # fmt: skip
    assert _checked(check) == ({"sub/a.tmp.json", "sub/in/b.json", "b.json"}, 2)


def test_ignore_file_above_a_repository_has_no_influence(check, tree):
    tree({".gitignore": "*\n", "inner/.git/HEAD": "", "inner/a.json": FAULTY, "b.json": FAULTY})
    assert _checked(check, "inner") == ({"inner/a.json"}, 0)


@pytest.mark.parametrize("text", [b"\xff", b"*\n\0\xfe"])
def test_damaged_ignore_file_has_no_influence(check, tree, text):
    (tree({"a.json": FAULTY}) / ".gitignore").write_bytes(text)
    assert _checked(check) == ({"a.json"}, 0)


def test_folders_of_installed_packages_are_left_out(check, tree):
    tree({"node_modules/m/a.json": FAULTY, "env/pyvenv.cfg": "", "env/lib/b.json": FAULTY,
          "c.json": FAULTY})  # fmt: skip
    assert _checked(check) == ({"c.json"}, 2)
    assert "2 folders of installed packages" in check(".")[1]


def test_ignore_file_that_is_a_link_is_not_read(check, tree):
    folder = tree({"rules": "*\n", "a.json": FAULTY})
    (folder / ".gitignore").symlink_to("rules")
    assert _checked(check) == ({"a.json"}, 0)


def test_pathspec_is_not_loaded_without_a_reason(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(SOUND))
    probe = (
        "import sys\n"
        "from adalora_core.commands.cli import main\n"
        f"assert main(['check', {str(tmp_path)!r}]) == 0\n"
        "assert 'pathspec' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True)


def test_file_is_judged_once_in_each_format_whatever_links_lead_to_it(check, tree):
    folder = tree({"z.json": FAULTY, "deep/.keep": ""})
    for link in ("a.json", "deep/c.json", "b.yaml"):
        (folder / link).symlink_to(folder / "z.json")
    assert _checked(check)[0] == {"z.json", "b.yaml"}
    assert _checked(check, "a.json", ".")[0] == {"z.json", "b.yaml"}
    assert _checked(check, "a.json", "b.yaml")[0] == {"a.json", "b.yaml"}
    assert _checked(check, "a.json", "deep/../a.json")[0] == {"a.json"}


def test_link_named_by_the_user_makes_its_file_a_named_one(check, tree):
    folder = tree({"z.json": "{}"})
    (folder / "a.json").symlink_to("z.json")
    assert "ADA006" in check("a.json", ".")[1]


def test_hard_links_are_files_of_their_own(check, tree):
    folder = tree({"a.json": FAULTY})
    os.link(folder / "a.json", folder / "b.json")
    assert _checked(check)[0] == {"a.json", "b.json"}


@pytest.mark.slow
def test_this_repository_is_clean_and_a_fault_outside_the_excludes_is_found(
    check, monkeypatch, tmp_path
):
    for target in targets([str(ROOT)], ()):
        copy = tmp_path / Path(target.name).relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target.name, copy)
    monkeypatch.chdir(tmp_path)
    folders = {"tests/contract", "tests/contract/corpus/deeper", "benchmarks/results", ""}
    planted = {str(Path(folder, "planted.yaml")) for folder in folders}
    for name in planted:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(FAULTY)
    code, out, err = check(".", "-o", "json")
    assert (code, err) == (1, "")
    faulty = {
        report["source"]
        for report in json.loads(out)["reports"]
        if any(each["severity"] != "info" for each in report["diagnostics"])
    }
    assert faulty == planted
    assert "tests/contract/corpus/*.json" in check("planted.yaml")[1]  # what alone is excluded
