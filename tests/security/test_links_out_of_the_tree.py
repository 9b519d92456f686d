"""Links that leave the checked tree are reported, and not followed unless that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confined import CANARY

from adalora_core.config.rules.base import SOUND

WRONG = json.dumps(SOUND | {"init_r": 12.0})
LINE = "a link out of the checked tree is not followed; pass --follow-links to follow it"


def _sources(done):
    return {report["source"] for report in json.loads(done.stdout)["reports"]}


@pytest.fixture
def linked(confined):
    """A tree with links to files and folders inside and outside of it."""
    confined.write({"run/good.json": json.dumps(SOUND), "other/inner.json": json.dumps(SOUND)})
    (confined.outside / "folder").mkdir()
    (confined.outside / "folder" / "outer.json").write_text(f'{{"peft_type": "{CANARY}"}}')
    (confined.tree / "run/secret.json").symlink_to("../../secret.json")
    (confined.tree / "run/inside.json").symlink_to("../other/inner.json")
    (confined.tree / "run/folder").symlink_to("../../folder")
    (confined.tree / "run/loop").symlink_to("..")
    return confined


@pytest.mark.parametrize("argument", [".", "**/*.json", "run/*.json", "r*/**/*.json"])
def test_searched_links_out_of_the_tree_are_reported_and_not_read(linked, argument):
    done = linked.run("check", argument)
    assert f"adalora check: run/secret.json: {LINE}\n" in done.stderr
    assert done.returncode == 2


def test_links_inside_of_the_tree_are_followed_and_files_and_folders_once(linked):
    (linked.tree / "run/secret.json").unlink()
    done = linked.run("check", ".", "-o", "json")
    # run/inside.json leads to a file that is judged under its own name.
    assert _sources(done) == {"run/good.json", "other/inner.json"}
    # A linked folder was never searched: the line is for information.
    assert (done.returncode, done.stderr) == (0, f"adalora check: run/folder: {LINE}\n")


def test_links_are_followed_where_that_is_asked_for(linked):
    (linked.tree / "run/secret.json").unlink()
    (linked.outside / "folder" / "outer.json").write_text(json.dumps(SOUND))
    (linked.outside / "folder" / "back").symlink_to(linked.tree)
    done = linked.run("check", ".", "-o", "json", "--follow-links")
    assert done.stderr == ""
    assert "run/folder/outer.json" in _sources(done)
    assert sum("good.json" in source for source in _sources(done)) == 1


def test_link_as_an_argument_is_the_users_choice_unless_links_are_forbidden(linked):
    (linked.outside / "folder" / "outer.json").write_text(json.dumps(SOUND))
    (linked.tree / "run/named.json").symlink_to("../../folder/outer.json")
    for argument in ("run/named.json", "run/folder", "run/folder/*.json"):
        assert linked.run("check", argument).returncode == 0
        done = linked.run("check", "--no-follow-links", argument)
        assert (done.returncode, done.stderr) == (2, f"adalora check: {argument}: {LINE}\n")
    outside = linked.outside / "folder" / "outer.json"
    assert linked.run("check", "--no-follow-links", outside).returncode == 0


def test_fixes_go_through_no_link_out_of_the_tree(confined):
    target = confined.outside / "target.json"
    target.write_text(WRONG)
    (confined.tree / "link.json").symlink_to(target)
    for argument in (".", "link.json", "*.json"):
        done = confined.run("check", "--fix", argument)
        assert (done.returncode, target.read_text()) == (2, WRONG)
        assert "link.json: " in done.stderr
    assert confined.run("check", "--fix", "--follow-links", "link.json").returncode == 0
    assert target.read_text() != WRONG


@pytest.mark.parametrize("option", [[], ["--no-follow-links"]])
def test_reports_are_written_through_no_link_out_of_the_tree(confined, option):
    (confined.outside / "reports").mkdir()
    (confined.outside / "reports/x.sarif").write_text("before")
    (confined.tree / "reports").symlink_to("../reports")
    (confined.tree / "x.json").symlink_to(confined.secret)
    confined.write({"good.json": json.dumps(SOUND)})
    files = ["--output-file", "sarif=reports/x.sarif", "--output-file", "json=x.json"]
    done = confined.run("check", "good.json", *option, *files)
    assert (done.returncode, done.stderr) == (2, f"adalora check: reports/x.sarif: {LINE}\n")
    assert (confined.outside / "reports/x.sarif").read_text() == "before"
    # A link in the place of the file is replaced.
    assert json.loads((confined.tree / "x.json").read_text())["reports"]
    outside = f"sarif={confined.outside}/reports/x.sarif"
    assert confined.run("check", "good.json", *option, "--output-file", outside).returncode == 0


@pytest.mark.parametrize(
    ("reference", "given"),
    [
        ("../../secret.json", "settings"),
        ("linked.json", "settings"),
        ("file://{}/secret.json", "settings"),
        ("..%2f..%2fsecret.json", "option"),
        ("../../secret.json", "id"),
    ],
)
def test_policy_of_the_tree_refers_to_no_file_outside_of_it(confined, reference, given):
    confined.secret.write_text(json.dumps({"const": CANARY}))
    confined._before = confined._state()
    policy = {"properties": {"init_r": {"$ref": reference.format(confined.outside)}}}
    if given == "id":
        policy["$id"] = (confined.tree / "policies" / "x.json").as_uri()
    confined.write({"policies/p.json": json.dumps(policy), "good.json": json.dumps(SOUND)})
    (confined.tree / "policies/linked.json").symlink_to("../../secret.json")
    option = ["--policy", "policies/p.json"]
    if given == "settings":
        option = []
        confined.write({"pyproject.toml": '[tool.adalora]\npolicy = "policies/p.json"\n'})
    done = confined.run("check", "good.json", *option)
    assert (done.returncode, done.stdout) == (2, "")
    assert "outside" in done.stderr


@pytest.mark.parametrize("name", ["../secret.json", "{}/secret.json", "link.json"])
def test_policy_of_the_settings_is_no_file_outside_of_the_project(confined, name):
    confined.write({
        "pyproject.toml": f'[tool.adalora]\npolicy = "{name.format(confined.outside)}"\n',
        "good.json": json.dumps(SOUND),
    })  # fmt: skip
    (confined.tree / "link.json").symlink_to("../secret.json")
    done = confined.run("check", "good.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "outside" in done.stderr


def test_settings_are_not_read_through_a_link_out_of_the_tree(confined):
    (confined.outside / "settings.toml").write_text(f'[tool.adalora]\n{CANARY} = "x"\n')
    (confined.tree / "pyproject.toml").symlink_to("../settings.toml")
    confined.write({"good.json": json.dumps(SOUND)})
    done = confined.run("check", "good.json")
    assert done.returncode == 2
    assert "pyproject.toml" in done.stderr
    assert Path(confined.tree / "pyproject.toml").is_symlink()
