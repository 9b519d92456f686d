"""Links that leave the checked tree are reported, and not followed unless that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confined import CANARY, needs_peft
from header_files import write_model

from adalora_core.commands.cli.files import rewrite, targets
from adalora_core.config.rules.base import SOUND
from adalora_core.floor.limits import DEFAULT_LIMITS

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


@pytest.mark.parametrize("suffix", [".py", ".ipynb", ".yaml", ".txt"])
def test_link_to_a_file_of_another_format_is_read_in_its_own(confined, suffix):
    """PEFT reads the link; the file alone is no configuration."""
    confined.write({f"mod{suffix}": json.dumps(SOUND | {"deltaT": 0}), "run/none.json": "{}"})
    (confined.tree / "run/adapter_config.json").symlink_to(f"../mod{suffix}")
    assert "run/adapter_config.json" in _sources(confined.run("check", ".", "-o", "json"))


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


@pytest.mark.slow
def test_fixes_go_through_no_link(confined):
    target = confined.outside / "folder" / "target.json"
    target.parent.mkdir()
    target.write_text(WRONG)
    (confined.tree / "link.json").symlink_to(target)
    (confined.tree / "sub").symlink_to(target.parent)
    for argument in (".", "link.json", "*.json", "sub", "sub/target.json", "sub/*.json"):
        for option in ([], ["--follow-links"], ["--no-follow-links"]):
            done = confined.run("check", "--fix", argument, *option)
            assert (done.returncode, target.read_text()) == (2, WRONG)
            assert ".json: " in done.stderr or "sub" in done.stderr


@pytest.mark.parametrize("place", ["here", "elsewhere"])
@pytest.mark.parametrize("what", ["sub/a.json", "sub"])
def test_fixes_go_through_no_link_that_appears_after_the_check(tmp_path, monkeypatch, place, what):
    tree = tmp_path / "tree"
    for folder in (tree / "sub", tmp_path / "out"):
        folder.mkdir(parents=True)
        (folder / "a.json").write_text(WRONG)
    monkeypatch.chdir(tree if place == "here" else tmp_path)
    top = "." if place == "here" else str(tree)
    (target,) = targets([top], ())
    (tree / what).rename(tree / "moved")
    (tree / what).symlink_to(tmp_path / what.replace("sub", "out"))
    with pytest.raises(OSError, match="not written: a link leads to the file"):
        rewrite(target, WRONG.encode(), b"{}", DEFAULT_LIMITS)
    assert (tmp_path / "out" / "a.json").read_text() == WRONG


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_folder_of_blobs_that_is_a_link_leads_out_of_no_adapter(confined, name):
    pytest.importorskip("torch", reason="export-lora needs it")
    folder = confined.tree / "snapshots" / "x"
    folder.mkdir(parents=True)
    (confined.tree / "blobs").symlink_to("../out")
    (confined.outside / "out").mkdir()
    lora = {"peft_type": "LORA", "r": 4, "target_modules": ["q"]}
    (folder / "adapter_config.json").write_text(json.dumps(lora))
    names = [f"base_model.model.{CANARY}.q.lora_{each}.weight" for each in "AB"]
    shapes = dict(zip(names, ([4, 8], [8, 5]), strict=True))
    write_model(folder / "adapter_model.safetensors", {k: ("F32", v) for k, v in shapes.items()})
    calls = [["check", "."], ["check", "snapshots/x/*.json"], ["plan", "snapshots/x"],
             ["report", "snapshots/x"], ["report", "snapshots/x", "-o", "json"],
             ["export-lora", "snapshots/x", "s"], ["check", ".", "--no-follow-links"]]  # fmt: skip
    if name == "adapter_config.json":
        (folder / name).write_text(json.dumps(lora | {"r": CANARY}))
    (folder / name).rename(confined.outside / "out" / name)
    (folder / name).symlink_to(f"../../blobs/{name}")
    confined.memory = 16 << 30
    for call in calls:
        done = confined.run(*call)
        assert CANARY not in done.stdout + done.stderr, call
        if call[0] != "check":
            assert done.returncode == 2
            assert "a link out of its folder is not followed" in done.stderr


@pytest.mark.slow
@needs_peft
def test_weights_of_a_base_model_lead_out_of_no_folder(confined):
    write_model(confined.outside / "model.safetensors", {f"{CANARY}.q.weight": ("F32", [8, 8])})
    confined.write({"a.json": json.dumps(SOUND), "m/config.json": "{}"})
    (confined.tree / "m" / "model.safetensors").symlink_to("../../model.safetensors")
    confined.memory = 16 << 30  # torch for CUDA maps more than it uses
    done = confined.run("plan", "a.json", "--weights", "m")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a link out of its folder is not followed" in done.stderr
    assert CANARY not in done.stderr


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
