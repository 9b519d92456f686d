"""A file that takes too much time or memory, or ends its reader, is one finding of a run."""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from confined import needs_peft
from header_files import write_model

from adalora_core.commands import bounded_run
from adalora_core.commands.bounded_run import BOUNDS, OF_A_CHECK
from adalora_core.commands.cli import COMMANDS
from adalora_core.config.rules.base import SOUND
from adalora_core.floor.worker import Bounds, Worker

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")

YAML = "".join(f"{key}: {json.dumps(value)}\n" for key, value in SOUND.items())
LOW = ["--limit", "processor-seconds=1", "--limit", "memory-bytes=300000000"]
"""Low bounds, so that a test is short."""
WRONG = json.dumps(SOUND | {"total_step": 100})
"""A configuration with one finding, ADA202."""

HOSTILE = {
    "long-key.json": lambda: json.dumps(
        {"k" * 1_000_000: SOUND | {f"k{i}": 1 for i in range(999)}}
    ),
    "long-key.yaml": lambda: f"? {'k' * 1_000_000}\n: {json.dumps([SOUND] * 3000)}\n",
    "long-value.yaml": lambda: (
        f"{YAML}v: &a {'v' * 2_000_000}\nmodules_to_save: [{'*a,' * 100_000}]\n"
    ),
    "long-value.py": lambda: (
        f"from peft import AdaLoraConfig\nv = '{'v' * 3_000_000}'\n"
        + "AdaLoraConfig(target_modules=v, init_r=v)\n" * 200
    ),
    "unknown-codes.yaml": lambda: (
        f"# adalora: ignore[{','.join(f'ADA{i}x' for i in range(300_000))}]\n{YAML}"
    ),
    "comments.yaml": lambda: "# adalora: ignore[ADA2x2]\n" * 60_000 + YAML,
}


def _run(tmp_path, *arguments, **options):
    command = [sys.executable, "-I", "-m", "adalora_core", *arguments]
    return subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, **options
    )


def _check(tmp_path, *arguments):
    finished = _run(tmp_path, "check", "-o", "json", *arguments)
    report = json.loads(finished.stdout) if finished.stdout else None
    return finished, report and {
        each["source"]: [found["code"] for found in each["diagnostics"]]
        for each in report["reports"]
    }


@pytest.mark.parametrize(
    "name", ["long-key.json", *(pytest.param(n, marks=pytest.mark.slow) for n in list(HOSTILE)[1:])]
)
def test_file_beyond_a_bound_is_one_finding_beside_those_of_others(tmp_path, name):
    (tmp_path / name).write_text(HOSTILE[name]())
    (tmp_path / "a.json").write_text(WRONG)
    (tmp_path / "z.json").write_text(WRONG)
    finished, found = _check(tmp_path, *LOW, ".")
    assert finished.returncode == 1
    assert found == {"a.json": ["ADA202"], name: ["ADA013"], "z.json": ["ADA202"]}
    assert finished.stderr == ""


@pytest.mark.slow
def test_settings_and_comments_do_not_suppress_the_finding(tmp_path):
    (tmp_path / "a.yaml").write_text(
        f"# adalora: ignore-file[ADA013]\n{HOSTILE['comments.yaml']()}"
    )
    settings = '[tool.adalora]\nexit-zero = true\nlimit = ["processor-seconds=1"]\n'
    (tmp_path / "pyproject.toml").write_text(settings)
    finished, found = _check(tmp_path, "a.yaml")
    assert (finished.returncode, found) == (1, {"a.yaml": ["ADA013"]})
    for refused in ('ignore = ["ADA013"]', 'per-file-ignores = {"*" = ["ADA013"]}'):
        (tmp_path / "pyproject.toml").write_text(f"[tool.adalora]\n{refused}\n")
        assert _check(tmp_path, "a.yaml")[0].returncode == 2


def test_settings_of_the_tree_lower_bounds_and_never_raise_them(tmp_path):
    (tmp_path / "a.json").write_text(WRONG)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.adalora]\nlimit = ["memory-bytes=2000000000"]\n'
    )
    finished = _run(tmp_path, "check", "a.json")
    assert finished.returncode == 2
    assert "may lower memory-bytes" in finished.stderr
    assert (
        _run(
            tmp_path, "check", "--isolated", "--limit", "memory-bytes=2000000000", "a.json"
        ).returncode
        == 1
    )


@pytest.mark.slow
def test_after_ten_files_beyond_a_bound_the_rest_is_counted(tmp_path):
    content = HOSTILE["long-key.json"]()
    for number in range(10):
        (tmp_path / f"b{number}.json").write_text(content)
    for name in ("a", "y", "z"):
        (tmp_path / f"{name}.json").write_text(WRONG)
    low = ["--limit", "memory-bytes=150000000"]
    finished, found = _check(tmp_path, *low, ".")
    assert finished.returncode == 1
    assert found == {"a.json": ["ADA202"], **{f"b{n}.json": ["ADA013"] for n in range(10)}}
    assert "not checked: 2 files, since others exceed a bound" in finished.stderr


def test_answer_of_more_than_16_megabytes_is_a_finding(tmp_path):
    config = {"k" * 100_000: SOUND | {f"k{i}": 1 for i in range(300)}}
    (tmp_path / "a.json").write_text(json.dumps(config))
    finished, found = _check(tmp_path, "a.json")
    assert (finished.returncode, found) == (1, {"a.json": ["ADA013"]})
    assert "more than 16 MB of findings" in finished.stdout


def test_outputs_of_a_notebook_do_not_fill_the_answer_of_a_worker(tmp_path):
    code = "from peft import AdaLoraConfig\nAdaLoraConfig(init_r=4, target_r=8, total_step=99)"
    cell = {"cell_type": "code", "source": code, "outputs": [{"text": "x" * 20_000_000}]}
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [cell], "nbformat": 4}))
    finished, found = _check(tmp_path, ".")
    assert finished.returncode == 1
    assert "ADA301" in found["a.ipynb"]


def test_run_shows_ten_thousand_findings_and_each_error(tmp_path):
    (tmp_path / "z.json").write_text(json.dumps({"peft_type": "ADALORA", "total_step": 0}))
    for number in range(12):
        unknown = {f"k{n}": 1 for n in range(990)}
        (tmp_path / f"{number:02}.json").write_text(
            json.dumps(SOUND | {"total_step": 100} | unknown)
        )
    finished, found = _check(tmp_path, ".")
    assert finished.returncode == 1
    codes = Counter(code for each in found.values() for code in each)
    assert codes["ADA104"] == 10_000
    assert found["z.json"] == ["ADA201"]
    assert "findings beyond the first 10000 errors and as many others" in finished.stderr


@pytest.mark.slow
def test_wall_time_is_bounded_but_not_while_the_user_is_waited_for(tmp_path):
    (tmp_path / "a.json").write_text(WRONG)
    command = [
        sys.executable,
        "-I",
        "-m",
        "adalora_core",
        "check",
        "--limit",
        "wall-seconds=1",
        "-",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    shown, _ = process.communicate(WRONG.encode())
    assert process.returncode == 1
    assert b"ADA202" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_both_processes_with_a_sentence(tmp_path, number):
    (tmp_path / "a.yaml").write_text(HOSTILE["comments.yaml"]())
    (tmp_path / "0.json").write_text("{")
    command = [sys.executable, "-I", "-m", "adalora_core", "check", "0.yaml", "a.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert "0.yaml" in process.stderr.readline()  # is missing; the next file is being read
    process.send_signal(number)
    _, shown = process.communicate()
    assert process.returncode == 128 + number
    assert shown == f"adalora check: {'interrupted' if number == signal.SIGINT else 'terminated'}\n"


def test_difference_of_many_lines_is_bounded(tmp_path):
    (tmp_path / "a.yaml").write_text("#\n" * 1_900_000 + YAML.replace("ADALORA", "adalora"))
    finished = _run(tmp_path, "check", *LOW, "--diff", "a.yaml")
    assert finished.returncode == 1
    assert finished.stderr.startswith(
        "adalora check: a.yaml: the check of the file needs more than"
    )
    assert finished.stderr.endswith("\nwould fix nothing\n")


@pytest.mark.slow
def test_explanation_of_a_long_text_is_bounded(tmp_path):
    low = ["--limit", "processor-seconds=1"]
    finished = _run(tmp_path, "explain", *low, input="Target modules " * 70_000)
    assert finished.returncode == 2
    assert finished.stderr == (
        "adalora explain: the command needs more than 1 s of processor time; raise the bound with "
        "--limit NAME=NUMBER\n"
    )


def test_worker_that_waits_too_long_is_ended():
    worker = Worker("import time; time.sleep(600)", Bounds(9, 1 << 30, 1))
    assert worker.answer() is None
    assert worker.end() == -signal.SIGKILL
    assert worker.reason == "takes more than 1 s"


class PlayedWorker:
    """Send the frames of a script in place of a process, and keep what it was told."""

    def __init__(self, frames, reason):
        self.frames, self.reason, self.bounds = iter(frames), reason, None

    def send(self, content):
        _, results, beyond, _, is_full, _ = marshal.loads(content)  # noqa: S302 - of this process
        self.told = sorted(results), sorted(beyond), is_full

    def answer(self, *, is_timed):  # noqa: ARG002 - as that of a worker
        return next((marshal.dumps(frame) for frame in self.frames), None)

    def end(self):
        return 0


A_IS_READ, B_BEGINS = [("file", "a", True), ("result", b"1")], ("file", "b", True)


def _played(monkeypatch, *scripts, **options):
    """Run a command in workers that play scripts; return what each was told when it began."""
    workers = [PlayedWorker(*script) for script in scripts]
    left = iter(workers)
    monkeypatch.setattr(bounded_run, "Worker", lambda *_, **__: next(left))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert bounded_run._Run(["check"], OF_A_CHECK, **options).run() == 0
    return [each.told for each in workers]


def test_file_that_ends_a_worker_after_others_is_read_once_more(monkeypatch):
    dies, ends = ([*A_IS_READ, B_BEGINS], "dies"), ([B_BEGINS, ("result", b"1")], None)
    assert _played(monkeypatch, dies, ends) == [([], [], False), (["a"], [], False)]
    again, rest = ([B_BEGINS], "dies"), ([], None)
    told = _played(monkeypatch, dies, again, rest)
    assert told == [([], [], False), (["a"], [], False), (["a"], ["b"], False)]
    assert _played(monkeypatch, again, rest) == [([], [], False), ([], ["b"], False)]


def test_standard_input_is_not_read_once_more(monkeypatch):
    dies = [*A_IS_READ, ("file", "-", False)], "dies"
    assert _played(monkeypatch, dies, ([], None))[1] == (["a"], ["-"], False)


def test_after_a_time_spent_on_files_beyond_a_bound_no_other_is_read(monkeypatch):
    told = _played(monkeypatch, ([B_BEGINS], "dies"), ([], None), most_seconds=1e-9)
    assert told == [([], [], False), ([], ["b"], True)]


def test_nothing_of_the_working_folder_is_imported(tmp_path):
    for name in ("json", "yaml", "marshal", "pickle", "argparse"):
        (tmp_path / f"{name}.py").write_text("print('imported'); raise SystemExit(9)\n")
    (tmp_path / "a.yaml").write_text(YAML)
    assert _run(tmp_path, "check", "a.yaml").returncode == 0
    program = str(Path(sys.executable).with_name("adalora"))
    finished = subprocess.run(
        [program, "check", "a.yaml"], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert (finished.returncode, "imported" in finished.stdout) == (0, False)


STEPS = {f"s{index}": {"allOf": [{"$ref": f"#/$defs/s{index + 1}"}] * 2} for index in range(40)}
POLICIES = {
    "expression": {"properties": {"revision": {"pattern": "(a|a)*b"}}},
    "references": {"$ref": "#/$defs/s0", "$defs": STEPS | {"s40": {"type": "object"}}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_policy_that_takes_too_long_never_passes(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(POLICIES[name]))
    (tmp_path / "a.json").write_text(json.dumps(SOUND | {"revision": "a" * 48}))
    finished, found = _check(tmp_path, *LOW, "--policy", name, "a.json")
    assert (finished.returncode, found) == (1, {"a.json": ["ADA013"]})


def _write_lora(folder, modules, entries, rank=8):
    """Write a LoRA whose factors all lie on the same bytes, zero but for the last."""
    size, names = (
        entries * 4,
        [f"base_model.model.l{n}.lora_{f}.weight" for n in range(modules) for f in "AB"],
    )
    header = {
        name: {
            "dtype": "F32",
            "shape": [rank, entries // rank][:: 1 if "_A" in name else -1],
            "data_offsets": [0, size],
        }
        for name in names
    }
    raw = json.dumps(header).encode()
    folder.mkdir()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(file.tell() + size - 1)
        file.seek(0, os.SEEK_END)
        file.write(b"\1")
    targets = [f"l{number}" for number in range(modules)]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.slow
def test_tensors_on_the_same_bytes_never_pass_a_check_that_takes_too_long(tmp_path):
    _write_lora(tmp_path / "saved", 49_000, 1 << 11)
    finished, found = _check(tmp_path, *LOW, "saved/adapter_config.json")
    assert (finished.returncode, found) == (1, {"saved/adapter_config.json": ["ADA013"]})


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="matplotlib is not installed; would have drawn for more than a second",
)
def test_command_on_tensors_is_bounded(tmp_path):
    _write_lora(tmp_path / "saved", 9_000, 1 << 11)
    finished = _run(
        tmp_path, "report", "--limit", "processor-seconds=1", "saved", "--output", "out"
    )
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1] == (
        "adalora report: the command needs more than 1 s of processor time; raise the bound with "
        "--limit NAME=NUMBER"
    )


@needs_peft
@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "entries", "rank"),
    [(1, 2_500 * 2_500, 2_500), (45_000, 64, 1), (1, 319_000_000 // 4, 8)],
)
def test_report_of_a_large_adapter_ends_in_time(tmp_path, modules, entries, rank):
    _write_lora(tmp_path / "saved", modules, entries, rank)
    finished = _run(tmp_path, "report", "--limit", "processor-seconds=20", "saved")
    assert finished.returncode in {0, 1, 2}
    assert "Traceback" not in finished.stderr


@needs_peft
@pytest.mark.slow
def test_plan_with_an_expression_that_may_take_long_is_refused(tmp_path):
    name = "a" * 48
    write_model(tmp_path / "model.safetensors", {f"{name}.weight": ("F32", [4, 4])})
    (tmp_path / "c.json").write_text(json.dumps(SOUND | {"target_modules": "(a|a)*b"}))
    finished = _run(tmp_path, "plan", "c.json", "--weights", "model.safetensors")
    assert finished.returncode == 2
    assert "it may take long; repeat less in it" in finished.stderr


def test_commands_on_files_of_others_are_those_with_bounds():
    of_data = {"plan", "report", "export-lora"}
    assert of_data == {name for name, each in BOUNDS.items() if each.of_data}
    assert {"check", "explain"} == BOUNDS.keys() - of_data
    assert BOUNDS.keys() < COMMANDS.keys()
