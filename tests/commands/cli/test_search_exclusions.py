"""Searching a folder leaves out what git ignores, and never what git tracks or a user names."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pace
import pytest

from adalora_core.commands.cli import search_exclusions
from adalora_core.commands.cli.files import targets
from adalora_core.commands.cli.git_index import tracked_files
from adalora_core.config.rules.base import SOUND

ROOT = Path(__file__).parents[3]
FAULTY = json.dumps(SOUND | {"deltaT": 0})


def _git(folder, *arguments):
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run([shutil.which("git"), "-C", str(folder), *identity, *arguments], check=True,
                   capture_output=True)  # fmt: skip


@pytest.fixture(scope="module")
def fresh_repository(tmp_path_factory):
    """An empty repository, made once and copied by each test."""
    folder = tmp_path_factory.mktemp("fresh")
    _git(folder, "init", "-q")
    return folder / ".git"


@pytest.fixture
def tree(tmp_path, monkeypatch, fresh_repository):
    """A repository in which `write` makes files."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(fresh_repository, tmp_path / ".git")

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


def test_tracked_file_is_checked_whatever_the_ignore_files_say(check, tree):
    folder = tree({"out/deep/a.json": FAULTY, "node_modules/m/b.json": FAULTY, "c.json": FAULTY,
                   "out/d.json": FAULTY})  # fmt: skip
    _git(folder, "add", "out/deep/a.json", "node_modules/m/b.json", "c.json")
    tree({".gitignore": "*\n", "out/.gitignore": "*\n", "node_modules/.gitignore": "**\n"})
    assert _checked(check)[0] == {"out/deep/a.json", "node_modules/m/b.json", "c.json"}


def test_repository_inside_hides_no_file_that_the_outer_one_tracks(check, tree):
    folder = tree({"sub/bad.json": FAULTY, "own/a.json": FAULTY, "c.json": FAULTY})
    _git(folder, "add", "sub/bad.json", "c.json")
    heads = dict.fromkeys(("sub/.git/HEAD", "own/.git/HEAD"), "ref: refs/heads/x\n")
    tree({**heads, "sub/.gitignore": "*\n", "own/.gitignore": "*\n"})
    assert _checked(check) == ({"sub/bad.json", "c.json"}, 1)
    assert _checked(check, "sub") == ({"sub/bad.json"}, 0)


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


def test_ignore_file_outside_of_a_repository_has_no_influence(check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitignore").write_text("*\n")
    (tmp_path / "a.json").write_text(FAULTY)
    assert _checked(check)[0] == {"a.json"}


def test_folders_of_installed_packages_are_left_out(check, tree):
    tree({"node_modules/m/a.json": FAULTY, "env/pyvenv.cfg": "", "env/lib/b.json": FAULTY,
          "c.json": FAULTY})  # fmt: skip
    assert _checked(check) == ({"c.json"}, 2)
    assert "2 folders of installed packages" in check(".")[1]


def test_nested_repository_follows_its_own_index(check, tree, fresh_repository):
    folder = tree({".gitignore": "*.json\n", "inner/a.json": FAULTY, "inner/b.json": FAULTY})
    shutil.copytree(fresh_repository, folder / "inner" / ".git")
    _git(folder / "inner", "add", "-f", "a.json")
    assert _checked(check)[0] == {"inner/a.json", "inner/b.json"}
    (folder / "inner" / ".gitignore").write_text("*.json\n")
    assert _checked(check)[0] == {"inner/a.json"}


def test_worktree_of_git_is_a_repository_too(check, tree, tmp_path_factory, monkeypatch):
    folder = tree({"a.json": FAULTY, ".gitignore": "out/\n"})
    _git(folder, "add", ".")
    _git(folder, "commit", "-q", "-m", "x")
    other = tmp_path_factory.mktemp("other") / "tree"
    _git(folder, "worktree", "add", "-q", str(other))
    (other / "out").mkdir()
    (other / "out" / "b.json").write_text(FAULTY)
    monkeypatch.chdir(other)
    assert _checked(check) == ({"a.json"}, 1)


def _index(*names, version=2, extension=b"", mode=0o100644, dropped=b"\0"):
    """Return an index without a checksum; in version 4 each entry drops as much of the last."""
    entries, previous = b"", b""
    for name in names:
        known = previous if version == 4 else b""
        length = min(len(known + name), 0xFFF)
        entry = bytes(24) + struct.pack(">I32xH", mode, length)
        entry += (dropped if version == 4 else b"") + name + b"\0"
        entries += entry + bytes(0 if version == 4 else -len(entry) % 8)
        previous = known + name
    return struct.pack(">4sII", b"DIRC", version, len(names)) + entries + extension + bytes(20)


@pytest.mark.parametrize("version", [2, 4])
def test_names_in_an_index_of_each_version(check, tree, version):
    folder = tree({".gitignore": "*\n", "a.json": FAULTY, "a.json.json": FAULTY, "b.json": FAULTY})
    (folder / ".git" / "index").write_bytes(
        _index(b"a.json", b"a.json.json" if version == 2 else b".json", version=version)
    )
    assert _checked(check) == ({"a.json", "a.json.json"}, 1)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_names_are_those_that_git_lists(tree, version):
    names = ["a.json", "deep/er/b c.json", f"{'long' * 50}/{'x' * 90}.json", "\u00e9.json"]
    folder = tree(dict.fromkeys(names, "1"))
    _git(folder, "add", *names[1:])
    _git(folder, "update-index", "--add", f"--index-version={version}", names[0])
    assert (folder / ".git" / "index").read_bytes()[7] == (2 if version == 3 else version)
    assert tracked_files(str(folder)) == set(names)
    _git(folder, "rm", "-q", "--cached", names[0])
    _git(folder, "add", "--intent-to-add", names[0])
    assert tracked_files(str(folder)) == set(names)


DAMAGED = {
    "empty": b"", "cut": b"DIRC", "bytes": b"DIRC\0\0\0\2\0\0\0\1" + b"\xff" * 90,
    "no-index": _index(b"c.json")[4:], "version": _index(b"c.json", version=5),
    "split": _index(b"c.json", extension=b"link\0\0\0\0"),
    "beyond": _index(b"c.json", extension=b"TREE\0\0\0\1"),
    "sparse": _index(b"c/", mode=0o040000), "checksum": _index(b"c.json")[:-1] + b"1",
    "number": _index(b"c.json", version=4, dropped=b"\xff" * 100_000),
    "names": _index(b"x" * 500_000, *[b""] * 500, version=4),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_nothing_is_left_out_where_the_index_is_damaged(check, tree, name):
    folder = tree({".gitignore": "*\n", "a.json": FAULTY, "node_modules/b.json": FAULTY})
    (folder / ".git" / "index").write_bytes(DAMAGED[name])
    found, number = _checked(check)
    assert (found, number) == ({"a.json", "node_modules/b.json"}, 0)


@pytest.mark.parametrize(
    "text",
    ["a*" * 4 + "b\n*\n", "#\n" * (search_exclusions.MOST_LINES + 1) + "*\n",
     "*\n" + "#" * search_exclusions.MOST_BYTES],
    ids=["wildcards", "lines", "bytes"],
)  # fmt: skip
def test_ignore_file_beyond_the_bounds_hides_nothing_below_it(check, tree, text):
    tree({".gitignore": "x.json\n", "sub/.gitignore": text, "sub/x.json": FAULTY,
          "sub/deep/x.json": FAULTY, "x.json": FAULTY})  # fmt: skip
    assert _checked(check) == ({"sub/x.json", "sub/deep/x.json"}, 1)


def test_hostile_patterns_cannot_hang_the_search(check, tree):
    lines = "\n".join(f"*a*{'b' * n}*c" for n in range(1, 900))
    names = {f"{n:03}{'ab' * 110}.json": FAULTY for n in range(300)}
    tree({".gitignore": lines, **names})
    with pace.measured() as spent:
        assert _checked(check)[0] == set(names)
    assert spent.seconds < 5 * search_exclusions.MOST_SECONDS


def test_many_ignore_files_cannot_hang_the_search(check, tree):
    lines = "".join(f"{'?' * 41}{number:03}\n" for number in range(990))
    tree({f"{n:03}/.gitignore": lines for n in range(240)} | {"239/a.json": FAULTY})
    with pace.measured() as spent:
        assert _checked(check)[0] == {"239/a.json"}
    assert spent.seconds < 2 * search_exclusions.MOST_SECONDS


def test_nothing_is_left_out_where_the_index_is_sparse(check, tree):
    folder = tree({"in/a.json": FAULTY, "out/b.json": FAULTY, ".gitignore": "*\n"})
    _git(folder, "add", "-f", ".")
    _git(folder, "commit", "-q", "-m", "all")
    _git(folder, "sparse-checkout", "set", "--cone", "--sparse-index", "in")
    tree({"out/b.json": FAULTY})
    assert _checked(check) == ({"in/a.json", "out/b.json"}, 0)


def test_ignore_file_that_is_a_link_is_not_read(check, tree):
    folder = tree({"rules": "*\n", "a.json": FAULTY})
    (folder / ".gitignore").symlink_to("rules")
    assert _checked(check) == ({"a.json"}, 0)


def test_no_program_is_run(check, tree, monkeypatch):
    folder = tree({".gitignore": "out/\n", "out/a.json": FAULTY, "b.json": FAULTY})
    _git(folder, "add", "b.json")
    for module, name in ((subprocess, "Popen"), (os, "posix_spawn"), (os, "fork")):
        monkeypatch.setattr(module, name, None)
    assert _checked(check) == ({"b.json"}, 1)


def test_pathspec_is_not_loaded_without_a_reason(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(SOUND))
    probe = (
        "import sys\n"
        "from adalora_core.commands.cli import main\n"
        f"assert main(['check', {str(tmp_path)!r}]) == 0\n"
        "assert 'pathspec' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True)


def test_file_is_judged_once_whatever_links_lead_to_it(check, tree):
    folder = tree({"z.json": FAULTY, "deep/.keep": ""})
    for link in ("a.json", "b.yaml", "deep/c.toml"):
        (folder / link).symlink_to(folder / "z.json")
    assert _checked(check)[0] == {"z.json"}
    assert _checked(check, "a.json", ".")[0] == {"z.json"}
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
