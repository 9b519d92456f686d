"""Test which files a run checks: folders, patterns, exclusions, files without AdaLoRA."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from adalora_core.contract.reports import FORMATS
from adalora_core.contract.rules.base import SOUND

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
    assert (code, _sources(out)) == (1, ["b.json", "c.toml", "a.yml"])
    assert json.loads(out)["summary"]["skipped"] == 3
    assert "skipped 3 files without AdaLoRA" in check(tree)[1]


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
    assert _sources(out) == ["c.toml"]


def test_nothing_matched_exits_2_unless_allowed(check, tmp_path):
    code, _, err = check(tmp_path / "*.json")
    assert code == 2
    assert "no file matched" in err
    assert check(tmp_path / "*.json", "--allow-empty")[0] == 0
    assert check(tmp_path)[0] == 2


def test_named_file_without_a_block_fails_unless_allowed(check, write):
    path = write({"name": "no adapter"})
    assert check(path)[0] == 1
    assert check(path, "--ignore-unmatched")[0] == 0
    assert check(path, "--ignore-unmatched", "--key", "/peft")[0] == 0


def test_unreadable_file_among_others_exits_2_and_the_others_are_reported(check, write, tmp_path):
    code, out, err = check(tmp_path / "none.json", write(BAD), "-o", "json")
    assert (code, _sources(out)) == (2, ["adapter_config.json"])
    assert err.count("\n") == 1


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
        {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"]},
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
