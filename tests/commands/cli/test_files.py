"""Test which files a run checks: folders, patterns, exclusions, files without AdaLoRA."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from contract_reports import github_commands, gitlab_issues, parse

from adalora_core.checker.reports import FORMATS
from adalora_core.config.rules.base import SOUND

BAD = SOUND | {"deltaT": 0}


def _sources(out):
    return [Path(r["source"]).name for r in json.loads(out)["reports"]]


@pytest.fixture
def tree(write, tmp_path):
    write(BAD, "run/b.json")
    write("peft:\n  peft_type: ADALORA\n  total_step: 10\n", "run/deep/a.yml")
    write('[peft]\npeft_type = "ADALORA"\ntotal_step = 10\n', "run/c.toml")
    write({"name": "no adapter"}, "run/other.json")
    write({"peft_type": "LORA", "note": "not adalora"}, "run/lora.json")
    write("{{ template", "run/template.yaml")
    write(BAD, "run/notes.txt")
    write(BAD, "run/.hidden/d.json")
    return tmp_path / "run"


def test_folder_checked_finds_blocks_in_a_fixed_order_and_counts_the_rest(check, tree):
    code, out, _ = check(tree, "-o", "json")
    assert (code, _sources(out)) == (1, ["b.json", "c.toml", "lora.json", "a.yml"])
    assert json.loads(out)["summary"]["skipped"] == 2
    assert "skipped 2 files without AdaLoRA" in check(tree)[1]


LARGE = "x" * 4_300_000
SCRIPT = "from peft import AdaLoraConfig\nAdaLoraConfig(total_step=0)\n"


@pytest.mark.parametrize("comes_first", [True, False])
def test_outputs_of_a_notebook_do_not_count_towards_its_size(check, write, tmp_path, comes_first):
    cells = [{"cell_type": "code", "source": SCRIPT, "outputs": []}]
    cells.insert(
        int(comes_first),
        {"cell_type": "code", "source": "1", "outputs": [{"data": {"image/png": LARGE}}]},
    )
    path = write({"cells": cells, "metadata": {}}, "x/n.ipynb")
    code, out, _ = check(tmp_path / "x", "-o", "json")
    (report,) = json.loads(out)["reports"]
    errors = [each["code"] for each in report["diagnostics"] if each["severity"] == "error"]
    assert (code, errors) == (1, ["ADA201"])
    assert check(path)[0] == 1


def test_files_too_large_to_look_into_are_a_count_of_their_own(check, write, tmp_path):
    write({"a": "AdaLoRA", "peft_type": 1, "b": LARGE}, "x/first.json")
    write({"b": LARGE, "peft_type": "ADALORA"}, "x/last.json")
    write(SOUND, "x/run.json")
    code, out, err = check(tmp_path / "x")
    line = f"adalora check: too large to look into: {tmp_path}/x/first.json and 1 more\n"
    assert (code, err) == (0, line)
    assert "; left out 2 files too large to look into" in out
    assert "skipped" not in out
    for format_ in FORMATS:
        _, out, err = check(tmp_path / "x", "-o", format_)
        assert err == line
        shown = err if format_ == "gitlab" else out  # no place for a count
        assert "too large to look into" in shown or '"too_large": 2' in shown, format_
    assert check(tmp_path / "x", "--limit", "file-bytes=9000000")[0] == 1
    assert check(tmp_path / "x/first.json")[0] == 1
    assert check(tmp_path / "x/first.json", "--ignore-unmatched")[0] == 0


def test_broken_file_in_a_folder_is_reported_only_if_it_mentions_adalora(check, write, tmp_path):
    write('{"peft_type": "ADALORA",', "x/broken.json")
    assert check(tmp_path / "x")[0] == 1
    write("{", "y/broken.json")
    assert check(tmp_path / "y", "-o", "json")[0] == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gan.yaml", "optimizer: adam\nlr: 0.0002\nbeta1: 0.5\nbeta2: 0.999\n"),
        ("state.json", {"epoch": 3, "total_step": 1200}),
        ("budget.yaml", "apiVersion: policy/v1beta1\n---\napiVersion: batch/v1beta1\n"),
        ("chart.yaml", "{{- if .Values.on }}\napiVersion: policy/v1beta1\n{{- end }}\n"),
        ("job.yaml", "metadata: {name: adalora-train}\n---\nkind: Service\n"),
        ("tsconfig.json", '{\n  // since 5.0-beta1\n  "strict": true\n}\n'),
    ],
)
def test_file_of_another_kind_is_passed_over_in_a_folder(name, content, check, write, tmp_path):
    path = write(content, f"run/{name}")
    code, out, _ = check(tmp_path / "run")
    assert (code, "skipped 1 file without AdaLoRA" in out) == (0, True)
    assert check(path, "--ignore-unmatched")[0] == 0


def test_configurations_in_a_list_are_found(check, write, tmp_path):
    sound = {"peft_type": "ADALORA", "total_step": 100, "tfinal": 10}
    write([sound, {"name": "other"}, sound | {"deltaT": 0}], "run/sweep.json")
    code, out, _ = check(tmp_path / "run", "-o", "json")
    (report,) = json.loads(out)["reports"]
    errors = [d["pointer"] for d in report["diagnostics"] if d["severity"] == "error"]
    assert (code, errors) == (1, ["/2/deltaT"])


def test_pattern_goes_into_folders_and_each_file_is_checked_once(check, tree):
    pattern = f"{tree}/**/*.yml"
    _, out, _ = check(pattern, pattern, tree / "deep" / "a.yml", "-o", "json")
    assert _sources(out) == ["a.yml"]


def test_excluded_files_are_left_out(check, tree):
    _, out, _ = check(tree, "--exclude", "b.json", "--exclude", "*/deep/*", "-o", "json")
    assert _sources(out) == ["c.toml", "lora.json"]


def test_nothing_matched_exits_2_unless_allowed(check, tmp_path):
    code, _, err = check(tmp_path / "*.json")
    assert code == 2
    assert "no file matched" in err
    assert check(tmp_path / "*.json", "--allow-empty")[0] == 0
    assert check(tmp_path)[0] == 2


def test_device_pipe_and_dangling_link_exit_2_at_once(check, tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to(tmp_path / "gone.json")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    for path in (tmp_path / "pipe.json", tmp_path / "link.json", tmp_path / "loop.json"):
        code, _, err = check(path)
        assert (code, err.count("\n")) == (2, 1)
    assert check("/dev/zero")[0] == 2


def test_folder_with_the_name_of_a_configuration_is_searched(check, write, tmp_path):
    write(BAD, "adapter_config.json/inner.json")
    assert check(tmp_path / "adapter_config.json")[0] == 1


def test_name_that_is_not_utf8_is_reported_in_every_format(check, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.json"
    with open(path, "w") as file:  # noqa: PTH123 - a name in bytes
        json.dump(BAD, file)
    for format_ in FORMATS:
        code, out, err = check(os.fsdecode(path), "-o", format_)
        assert (code, err) == (1, "")
        out.encode("utf-8")


@pytest.mark.parametrize(
    "content",
    [
        {"peft_type": "IA3", "target_modules": ["q_proj"]},
        "// a comment, as in other tools' files\n{}\n",
        "{{ a template }}",
    ],
    ids=["adapter of another method", "json with comments", "no json at all"],
)
def test_files_without_adalora_pass_where_they_may_be_unmatched(content, write, check):
    path = write(content)
    assert check(path)[0] == 1
    code, out, _ = check(path, "--ignore-unmatched")
    assert (code, "skipped 1 file without AdaLoRA" in out) == (0, True)


def test_broken_adalora_file_is_reported_even_where_it_may_be_unmatched(write, check):
    code, out, _ = check(write('{"peft_type": "ADALORA",'), "--ignore-unmatched")
    assert code == 1
    assert "ADA001" in out


def test_scripts_and_notebooks_of_a_folder_are_checked_and_fixed_in_place(check, write, tmp_path):
    call = (
        "AdaLoraConfig(init_r='12', target_r=8, tfinal=2, total_step=9, target_modules=['q_proj'])"
    )
    script = write(f"from peft import AdaLoraConfig\n{call}  # AdaLoRA\n", "run/train.py")
    cells = [{"cell_type": "code", "source": [call]}]
    notebook = write({"cells": cells, "nbformat": 4}, "run/train.ipynb")
    write("import torch\n", "run/other.py")
    write("from adalora_core import get_peft_model\n", "run/model.py")
    code, out, _ = check(tmp_path / "run", "-o", "json", "--select", "ADA102")
    assert (code, _sources(out)) == (1, ["train.ipynb", "train.py"])
    assert json.loads(out)["summary"]["skipped"] == 2
    old = notebook.read_text()
    assert check(tmp_path / "run", "--fix", "--select", "ADA102")[0] == 0
    assert script.read_text().splitlines()[1] == call.replace("'12'", "12") + "  # AdaLoRA"
    assert notebook.read_text() == old.replace("'12'", "12")


def test_named_script_must_be_about_adalora(check, write):
    assert check(write("import torch\n", "a.py"))[0] == 1
    assert check(write("import torch\n", "a.py"), "--ignore-unmatched")[0] == 0
    assert check(write("model.update_and_allocate(step)\n", "b.py"), "--select", "ADA1")[0] == 0


@pytest.mark.parametrize("options", [(), ("--quiet",)])
def test_excluded_file_that_a_hook_names_is_skipped_and_the_pattern_is_named(
    options, check, write, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write('[tool.adalora]\nexclude = ["scratch/*"]\n', "pyproject.toml")
    write("peft_type: ADALORA\n", "scratch/y.yaml")
    code, out, err = check(*options, "--ignore-unmatched", "--", "scratch/y.yaml")
    assert (code, err) == (0, "")
    assert ("left out 1 file excluded by scratch/*" in out) == (not options)
    code, _, err = check(*options, "--", "scratch/y.yaml")
    assert code == 2
    assert "left out 1 file excluded by scratch/*\n" in err
    # A folder is searched: a search that finds nothing must not pass.
    assert check("--ignore-unmatched", "scratch")[0] == 2


def test_empty_list_of_names_behind_dashes_checks_nothing(check, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(BAD)
    assert check("--ignore-unmatched", "--")[0] == 0
    code, _, err = check("--")
    assert code == 2
    assert "no file matched, so nothing was checked" in err
    assert check("--", ".")[0] == 1


def test_pattern_that_matches_nothing_is_reported_beside_a_path_that_does(check, write, tmp_path):
    write(SOUND)
    pattern = tmp_path / "adaptors" / "*.json"
    code, out, err = check(tmp_path, pattern, "-o", "github")
    assert (code, err) == (0, f"adalora check: {pattern}: no file matches this pattern\n")
    assert out.startswith(f"::warning file={pattern},title=adalora check::")
    assert check(tmp_path, pattern, "--allow-empty")[2] == ""


def _unreadable(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "out.json").symlink_to("/etc/hostname")
    return [tmp_path / "pipe.json", tmp_path / "none.json", tmp_path]


def test_file_that_cannot_be_read_is_in_every_report_for_programs(check, write, tmp_path):
    write(SOUND)
    formats = ("json", "sarif", "github", "gitlab")
    reports = {each: tmp_path.parent / f"report.{each}" for each in formats}
    named = [f"--output-file={each}={path}" for each, path in reports.items()]
    code, _, err = check(*_unreadable(tmp_path), *named)
    assert code == 2
    text = {each: path.read_text() for each, path in reports.items()}
    for each in formats:
        parse(text[each], each)
    whole = {each["source"]: each for each in json.loads(text["json"])["notices"]}
    names = {str(tmp_path / name) for name in ("pipe.json", "none.json", "out.json")}
    assert whole.keys() == names
    assert all(each["fails"] and each["message"] in err for each in whole.values())
    (invocation,) = json.loads(text["sarif"])["runs"][0]["invocations"]
    assert not invocation["executionSuccessful"]
    assert {each["level"] for each in invocation["toolExecutionNotifications"]} == {"error"}
    assert len(invocation["toolExecutionNotifications"]) == 3
    assert [kind for kind, _, _ in github_commands(text["github"])] == ["error"] * 3
    assert {each["check_name"] for each in gitlab_issues(text["gitlab"])} == {"not checked"}


def test_report_of_a_run_that_checked_nothing_is_not_green(check, tmp_path):
    code, out, _ = check(tmp_path, "-o", "gitlab")
    assert code == 2
    assert [each["check_name"] for each in gitlab_issues(out)] == ["not checked"]
