"""Test `adalora check` as a pipeline uses it: exit codes, streams, blocks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from adalora_core.commands.cli import COMMANDS, main
from adalora_core.commands.cli.check import parse
from adalora_core.config.rules.base import SOUND


def test_sound_file_exits_0_and_reports_what_was_checked(check, write):
    code, out, err = check(write(SOUND))
    assert (code, err) == (0, "")
    assert out == "checked 1 configuration: 0 errors, 0 warnings\n"


def test_error_exits_1_with_excerpt_and_caret(check, write):
    path = write(json.dumps(SOUND | {"deltaT": 0}, indent=1))
    code, out, _ = check(path)
    assert code == 1
    assert f"--> {path}:" in out
    lines = out.splitlines()
    at = next(index for index, line in enumerate(lines) if '"deltaT": 0' in line)
    assert lines[at + 1].index("^") == lines[at].index("0", lines[at].index("deltaT"))


def test_warning_exits_0_unless_the_fail_level_is_lower(check, write):
    path = write(SOUND | {"r": 4})
    assert check(path)[0] == 0
    assert check(path, "--fail-level", "warning")[0] == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [("not json", "ADA001"), ("", "ADA009"), ("[1, 2]", "ADA007"), ('{"a": 1}', "ADA006")],
)
def test_unusable_content_exits_1_with_one_finding(check, write, content, code):
    exit_code, out, err = check(write(content), "--output-format", "json")
    (report,) = json.loads(out)["reports"]
    assert (exit_code, err) == (1, "")
    assert [d["code"] for d in report["diagnostics"]] == [code]


def test_missing_file_exits_2_with_one_line(check, tmp_path):
    code, out, err = check(tmp_path / "none.json")
    assert (code, out) == (2, "")
    assert err == f"adalora check: {tmp_path / 'none.json'}: No such file or directory\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_begins_with_a_sentence_and_two_examples(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["help", name])
    introduction, usage, _ = capsys.readouterr().out.partition("usage: ")
    sentence, examples, end = introduction.split("\n\n")
    assert (ended.value.code, usage, end) == (0, "usage: ", "")
    assert sentence.endswith(".")
    lines = examples.splitlines()
    assert len(lines) > 1
    assert all(line.startswith(f"  adalora {name}") and len(line) <= 80 for line in lines)


def test_help_without_a_command_lists_all(capsys):
    assert main(["help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_examples_of_the_help_are_right(check):
    for each in check("--help")[1].split("\n\n")[1].splitlines():
        _, _, *arguments = each.strip().split("  ")[0].split()
        parse([*arguments, "--isolated"])  # wrong ones end the process


@pytest.mark.parametrize(
    "arguments",
    [
        ["x.json", "--runtime", "torch"],
        ["x.json", "--no-such-option"],
        ["-", "--limit", "depth=0"],
        ["-", "--limit", "depth=\u00b2"],
        ["-", "--peft-version", "new"],
    ],
)
def test_wrong_usage_exits_2(check, arguments):
    code, out, err = check(*arguments)
    assert (code, out) == (2, "")
    assert "adalora check" in err


def test_without_a_path_the_working_folder_is_checked(check):
    Path("sub").mkdir()
    Path("sub", "run.json").write_text(json.dumps(SOUND | {"deltaT": 0}))
    code, out, _ = check()
    assert code == 1
    assert "--> sub/run.json:1:" in out
    Path("sub", "run.json").unlink()
    code, _, err = check()
    assert code == 2
    assert err.startswith("adalora check: no file matched")


def test_limit_that_does_not_exist_is_answered_with_the_names_of_the_page(check):
    _, _, err = check("-", "--limit", "bytes=3")
    assert "file-bytes, depth, nodes, diagnostics, processor-seconds" in err
    assert check("none.json", "--limit", "file_bytes=3", "--limit", "file-bytes=3")[0] == 2


def test_standard_input_is_read_for_a_dash(check, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(json.dumps(SOUND | {"deltaT": 0}).encode()))
    monkeypatch.setattr("sys.stdin", stream)
    code, out, _ = check("-", "--stdin-filename", "run.json")
    assert code == 1
    assert "--> run.json:1:" in out


def test_json_output_holds_every_finding_with_its_place(check, write):
    path = write(SOUND | {"deltaT": 0, "r": 4})
    _, out, _ = check(path, "--output-format", "json")
    content = json.loads(out)
    assert content["schema_version"] == 1
    assert content["summary"] == {
        "configurations": 1,
        "errors": 1,
        "warnings": 1,
        "infos": 0,
        "skipped": 0,
        "too_large": 0,
        "left_out": 0,
        "unjudged": 0,
        "suppressed": 0,
    }
    (report,) = content["reports"]
    assert (report["source"], report["ok"]) == (str(path), False)
    by_code = {d["code"]: d for d in report["diagnostics"]}
    assert set(by_code) == {"ADA204", "ADA303"}
    assert by_code["ADA204"]["pointer"] == "/deltaT"
    assert by_code["ADA204"]["span"]["start"]["line"] == 1


def test_options_reach_the_engine(check, write):
    equal = write(SOUND | {"init_r": 8, "target_r": 8})
    assert check(equal)[0] == 1
    assert check(equal, "--runtime", "adalora-core")[0] == 0
    unknown = write(SOUND | {"bogus": 1}, "unknown.json")
    assert check(unknown)[0] == 0
    assert check(unknown, "--strict-keys")[0] == 1


NESTED = {"model": "opt", "runs": [{"peft": SOUND | {"deltaT": 0}}, {"peft": SOUND}]}


def test_blocks_in_another_tools_file_are_found_by_peft_type(check, write):
    code, out, _ = check(write(NESTED), "--output-format", "json")
    (report,) = json.loads(out)["reports"]
    assert code == 1
    assert [d["pointer"] for d in report["diagnostics"]] == ["/runs/0/peft/deltaT"]


def test_block_named_by_key_is_the_only_one_checked(check, write):
    assert check(write(NESTED), "--key", "/runs/1/peft")[0] == 0
    assert check(write(NESTED), "--key", "/runs/0/peft")[0] == 1
    assert check(write(NESTED), "--key", "/runs/7/peft")[0] == 1


@pytest.mark.parametrize(
    ("content", "codes"),
    [
        # A block without peft_type, with names that only AdaLoRA has.
        ({"init_r": 12, "target_r": 8, "deltaT": 0}, {"ADA101", "ADA201", "ADA204", "ADA414"}),
        # PEFT's names with a prefix, as on the command lines of trainers.
        (
            {"adalora_init_r": 12, "adalora_target_r": 8, "adalora_tinit": 90, "lr": 1,
             "adalora_tfinal": 20, "adalora_total_step": 100, "target_modules": ["q"]},
            {"ADA202"},
        ),
        # A section beside a key whose value is adalora.
        ({"method": "adalora", "lora": {"target_modules": ["q"], "rank": 8, "init_r": 9}},
         {"ADA104", "ADA201"}),
        # PEFT's names among the tool's own.
        ({"lora_type": "AdaLoRA", "rank": 8, "num_steps": 3, "target_modules": ["q"]},
         {"ADA104", "ADA201", "ADA306"}),
        # A section of any name that holds names of AdaLoRA.
        ({"method": "adalora", "config": {"target_modules": ["q"], "init_r": 9}}, {"ADA201"}),
        # A tool's own names are not misspellings.
        ({"finetuning_type": "adalora", "model_name_or_path": "m", "max_steps": 9, "init_r": 9,
          "warmup_steps": 3, "target_modules": ["q"]}, {"ADA201"}),
        # Hydra names the class.
        ({"_target_": "peft.AdaLoraConfig", "init_r": 9, "target_modules": ["q"]}, {"ADA201"}),
        ({"peft_type": "LORA", "target_r": 8, "use_dora": True}, {"ADA105"}),
    ],
    ids=["bare", "prefixed", "section", "flat", "any-section", "tools-own", "hydra",
         "other-method"],
)  # fmt: skip
def test_block_in_another_layout_is_found(check, write, content, codes):
    _, out, _ = check(write(content), "--output-format", "json")
    (report,) = json.loads(out)["reports"]
    assert {d["code"] for d in report["diagnostics"]} == codes


def test_prefixed_key_is_reported_under_its_own_spelling(check, write):
    content = {"adalora_init_r": 12, "adalora_target_r": 0, "adalora_total_step": 9}
    _, out, _ = check(write(content), "--output-format", "json")
    pointers = {d["pointer"] for d in json.loads(out)["reports"][0]["diagnostics"]}
    assert "/adalora_target_r" in pointers


def test_layout_option_restricts_the_search(check, write):
    path = write({"lora_type": "adalora", "target_modules": ["q"], "rank": 8})
    assert "ADA306" in check(path, "--layout", "flat")[1]
    assert "ADA006" in check(path, "--layout", "peft")[1]


def test_wrong_usage_is_one_sentence_and_names_the_help(check):
    code, out, err = check("--nonsense")
    assert (code, out) == (2, "")
    assert err.endswith("\n'adalora check --help' lists the arguments\n")
    assert len(err.splitlines()) == 2


def test_release_of_peft_that_is_not_known_yet_is_named(check, write):
    code, _, err = check(write(SOUND), "--peft-version", "9.9")
    assert (code, "--peft-version 9.9: not known" in err) == (0, True)
    assert check(write(SOUND), "--peft-version", "0.21.2")[2] == ""


def test_file_whose_suffix_names_no_format_is_not_called_json_with_comments(check, write):
    out = check(write("# Title\n\ntext\n", "README.md"))[1]
    assert "comment" not in out
    assert "the suffix '.md' names no format, so this is read as JSON; name one by --format" in out
    assert "remove the comma" in check(write('{"a": 1,}', "adapter.conf"))[1]


def test_script_without_a_configuration_is_counted_as_such(check, write):
    script = write("from peft import AdaLoraConfig\n", "a.py")
    words = "1 script without a configuration: 0 errors, 0 warnings\n"
    assert check(script)[1] == f"checked {words}"
    assert check(script, write(SOUND))[1] == f"checked 1 configuration and {words}"


def test_call_without_a_known_value_is_counted_in_the_summary(check, write):
    head = "import yaml\nfrom peft import AdaLoraConfig\n"
    call = "AdaLoraConfig(**yaml.safe_load(open('run.yaml')))\n"
    phrase = "; the values of 1 configuration are known at run time only"
    assert phrase in check(write(head + call, "a.py"))[1]
    _, out, _ = check(write(head + call * 2, "a.py"), "-o", "json")
    assert json.loads(out)["summary"]["unjudged"] == 2
    known = head + call.replace("(**", "(init_r=6, **")
    assert "run time" not in check(write(known, "a.py"))[1]


def test_last_line_counts_the_configurations_whose_total_step_only_a_run_can_tell(check, write):
    head = "from peft import AdaLoraConfig\n"
    ranks = "init_r=12, target_r=8, tfinal=200, target_modules=['q_proj']"
    paths = [
        write(f"{head}AdaLoraConfig({ranks}, total_step={total})\n", name)
        for name, total in (("a.py", "len(loader)"), ("b.py", "1000"), ("c.py", "args.steps"))
    ]
    last = "checked {}: 0 errors, 0 warnings{}\n"
    lack = "; total_step could not be read in {}: no schedule is judged there"
    assert check(*paths)[1] == last.format("3 configurations", lack.format(2))
    assert check(paths[0])[1] == last.format("1 configuration", lack.format(1))
    assert check(paths[1])[1] == last.format("1 configuration", "")


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        (
            "a.yaml",
            "m: 1\nadalora:\n  init_r: 12\n  tinit: 5\n  beta1: 0.8\n",
            "peft_type: ADALORA",
        ),
        ("a.toml", "[adalora]\ninit_r = 12\ntinit = 5\nbeta1 = 0.8\n", 'peft_type = "ADALORA"'),
        (
            "a.json",
            '{"adalora": {"init_r": 12, "tinit": 5, "beta1": 0.8}}',
            '"peft_type": "ADALORA"',
        ),
    ],
)
def test_section_without_its_method_is_pointed_at(check, write, name, text, word):
    path = write(text, name)
    code, out, _ = check(path)
    assert code == 1
    assert "error[ADA006] `/adalora` looks like an AdaLoRA configuration and lacks" in out
    assert "(/adalora)" in out
    assert f"hint: write `{word}` into it" in out
    assert "ADA006" not in check(path.parent)[1], "a search does not take it"


@pytest.mark.parametrize(
    "fields",
    [
        {"init_r": 12, "tinit": 5},
        {"beta1": 0.9, "beta2": 0.99, "total_step": 100},
        {"init_r": 12, "tinit": 5, "tfinal": 5, "peft_type": "LORA"},
    ],
)
def test_section_of_another_kind_is_not_pointed_at(check, write, fields):
    out = check(write({"section": fields}))[1]
    assert "error[ADA006] no configuration of AdaLoRA or LoRA in this file" in out
