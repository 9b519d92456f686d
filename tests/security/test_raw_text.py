"""No raw text from outside reaches a terminal or a log."""

from __future__ import annotations

import json
import re

import pytest
from header_files import small_llama, write_model

from adalora_core.config.rules.base import SOUND
from adalora_core.floor.escaping import visible

EVIL = "\x1b[2J\x07\u202e\r\n::error::##[set-output name=errors]0##vso[task]"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]|^\\s*::error|##\\w*\\[", re.MULTILINE)


COMMAND = re.compile(r"^\s*(::(?!(error|warning|notice) )|##\[)", re.MULTILINE)


def test_no_line_begins_with_a_command(confined):
    wrong = json.dumps(SOUND | {"deltaT": 0, "init_r": 8.0})
    names = [f"{blank}::add-mask::x" for blank in ("", " ", "\u3000")]
    pattern = {f"{name}.lora_E": [True, False] for name in names}
    trained = SOUND | {"init_r": 2, "target_r": 1, "rank_pattern": pattern, "inference_mode": True}
    confined.write({
        **{f"{name}.json": wrong for name in names},
        **{f"{name}.yaml": f"{wrong}\n" for name in names},
        "##[x].json": wrong, "a/adapter_config.json": json.dumps(trained),
        "pyproject.toml": "[tool.adalora]\noutput-format = 'concise'\n",
    })  # fmt: skip
    weights = {f"{name}.q_proj.weight": ("F32", [16, 16]) for name in names}
    write_model(confined.tree / "m.safetensors", weights)
    calls = [["check", ".", "-o", format_] for format_ in ("full", "concise", "github")]
    calls += [["check", ".", "--runtime", "adalora-core"]]
    calls += [["report", "a", "--rank-pattern", each] for each in ("peft", "axolotl", "json")]
    (confined.tree / ":").write_text(f"{wrong}\n")
    calls += [["check", "-o", each, "--format", "yaml", "--", ":"] for each in ("full", "concise")]
    calls.append(["plan", f"{names[-1]}.yaml", "--weights", "m.safetensors"])
    for call in calls:
        done = confined.run(*call)
        found = COMMAND.search(done.stdout) or COMMAND.search(done.stderr)
        assert not found, (call, found.group())
        assert "add-mask" in done.stdout + done.stderr or call[-1] == ":"


def _assert_clean(done):
    for stream in (done.stdout, done.stderr):
        assert not RAW.search(stream), ascii(stream[:2000])


@pytest.mark.parametrize(
    "text", ["##[add-mask]x", "a ##vso[task.setvariable]", "##teamcity[x]", "###[stop-commands]x"]
)
def test_commands_that_services_read_anywhere_in_a_line_are_escaped(text):
    assert not RAW.search(visible(text))
    assert visible("## a [list] # [b]") == "## a [list] # [b]"


def test_invisible_letters_are_escaped_whatever_their_category():
    invisible = "\U000e0041\ufff9\u206a\u180e\u3164\xad\ufe0f\ue000\u0378\ud800\u2028\x85\U000e01ef"
    for each in invisible:
        assert visible(f"a{each}b") == f"a{ascii(each)[1:-1]}b"
    assert visible("a\xa0\u3000b \xe9\u4e2d\U0001f600") == "a\xa0\u3000b \xe9\u4e2d\U0001f600"


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", f"none{EVIL}.json"],
        ["check", ".", "--exclude", "nothing", "--fix"],
        ["check", f"{EVIL}.json", "--key", f"/{EVIL}"],
        ["check", "a.json", "--policy", f"{EVIL}.json"],
        ["check", "a.json", "--limit", EVIL],
        ["check", "a.json", "--select", EVIL],
        ["check", "a.json", f"--{EVIL.replace(' ', '')}"],
        ["check", "a.json", "--output-file", f"json=none/{EVIL}"],
        ["plan", f"none{EVIL}.json"],
        ["plan", "a.json", "--key", f"/{EVIL}"],
        ["plan", "a.json", "--weights", f"none{EVIL}"],
        ["report", f"none{EVIL}"],
        ["rule", EVIL],
        [EVIL],
    ],
    ids=lambda arguments: arguments[0][:6],
)
def test_names_and_arguments_are_escaped(confined, arguments):
    confined.write({"a.json": json.dumps(SOUND)})
    done = confined.run(*arguments)
    assert done.returncode == 2 or "--fix" in arguments
    _assert_clean(done)


@pytest.mark.parametrize(
    "settings",
    [
        f"{json.dumps(EVIL)} = 1",
        f"select = [{json.dumps(EVIL)}]",
        f"fail-level = {json.dumps(EVIL)}",
        f"policy = {json.dumps(EVIL)}",
        f"limit = [{json.dumps(EVIL)}]",
        f"exclude = [{json.dumps(EVIL)}]",
        f"[tool.adalora.per-file-ignores]\n{json.dumps(EVIL)} = ['ADA001']",
    ],
    ids=lambda text: text[:10],
)
def test_settings_are_escaped(confined, settings):
    confined.write({"pyproject.toml": f"[tool.adalora]\n{settings}\n", "a.json": json.dumps(SOUND)})
    for format_ in ("full", "github", "concise") if settings.startswith("exclude") else ("full",):
        _assert_clean(confined.run("check", "a.json", "-o", format_))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["q_proj", "none", EVIL, ["q_proj", EVIL]])
def test_names_of_tensors_are_escaped(confined, target):
    tensors = small_llama() | {
        f"model.{EVIL}.q_proj.weight": next(iter(small_llama().values())),
        f"{EVIL}.bias": next(iter(small_llama().values())),
    }
    write_model(confined.tree / "m.safetensors", tensors)
    config = SOUND | {"target_modules": target, "modules_to_save": [EVIL], "exclude_modules": EVIL}
    confined.write({"a.json": json.dumps(config)})
    done = confined.run("plan", "a.json", "--weights", "m.safetensors")
    assert done.stdout + done.stderr
    _assert_clean(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"a.weight": f"{EVIL}.safetensors"}},
        {"weight_map": {EVIL: "m.safetensors"}},
        {"weight_map": {EVIL: 3}},
        {"weight_map": 3, EVIL: 4},
    ],
    ids=str,
)
def test_names_of_shards_are_escaped(confined, index):
    write_model(confined.tree / "m.safetensors", small_llama())
    confined.write({"a.json": json.dumps(SOUND), f"{EVIL.replace('/', '')}.json": "{"})
    confined.write({"model.safetensors.index.json": json.dumps(index)})
    _assert_clean(confined.run("plan", "a.json", "--weights", "."))


def test_names_of_files_and_keys_are_escaped_in_every_human_format(confined):
    confined.write({
        f"{EVIL}.json": json.dumps(SOUND | {EVIL: 1, "init_r": EVIL, "bias": EVIL}),
        f"{EVIL}.yaml": f"peft:\n  peft_type: ADALORA\n  {json.dumps(EVIL)}: 1\n",
    })  # fmt: skip
    for format_ in ("full", "concise", "github"):
        done = confined.run("check", ".", "-o", format_)
        lines = [line for line in done.stdout.splitlines() if not line.startswith("::")]
        done.stdout = "\n".join(lines)
        _assert_clean(done)
