"""`check_config` and `validate_config`: sources, options, runtimes, errors."""

from __future__ import annotations

import enum
import inspect
import json
import os

import pytest

from adalora_core.checker.check import check_config, validate_config
from adalora_core.checker.documents import decode
from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.inspection import examine
from adalora_core.commands.cli import main
from adalora_core.config.findings import ConfigError, ConfigWarning
from adalora_core.config.rules.base import SOUND
from adalora_core.floor.limits import DEFAULT_LIMITS


def _codes(report):
    return [diagnostic.code for diagnostic in report.diagnostics]


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.read_text(),
        lambda path: path.read_bytes(),
        lambda path: bytearray(path.read_bytes()),
        lambda path: json.loads(path.read_text()),
        lambda path: path,
    ],
    ids=["str", "bytes", "bytearray", "mapping", "path"],
)
def test_source_of_each_kind_checked_gives_the_same_findings(make, tmp_path):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(SOUND | {"use_dora": True, "r": 4}))
    assert sorted(_codes(check_config(make(path)))) == ["ADA303", "ADA401"]


TOOL_FILES = {
    "axolotl": "base_model: a\nadapter: adalora\nlora_r: 8\ninit_r: 12\ntarget_r: 8\n",
    "ms-swift": "tuner_type: adalora\nadalora_init_r: 8\nadalora_target_r: 12\n",
    "llama-factory": "stage: sft\nfinetuning_type: adalora\ninit_r: 12\n",
    "hydra": "model:\n  peft:\n    _target_: peft.AdaLoraConfig\n    use_dora: true\n",
    "two": "a: &a {peft_type: ADALORA, total_step: 0}\nb: {<<: *a, init_r: 4}\n",
    "none": "lora_alpha: 32\nbias: none\n",
}


@pytest.mark.parametrize("tool", TOOL_FILES)
def test_file_and_text_are_searched_as_the_command_searches(tool, tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(TOOL_FILES[tool])
    main(["check", "--isolated", "-o", "json", str(path)])
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    expected = [(each["code"], each["pointer"]) for each in report["diagnostics"]]
    for source in (path, TOOL_FILES[tool], TOOL_FILES[tool].encode()):
        found = check_config(source, format="yaml")
        assert [(each.code, each.pointer) for each in found.diagnostics] == expected


def test_mapping_is_the_configuration_unless_it_only_holds_some(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"model": "opt", "total_step": 9, "peft": SOUND}))
    assert validate_config(path).total_step == SOUND["total_step"]
    section = {key: value for key, value in SOUND.items() if key != "peft_type"}
    assert _codes(check_config({"method": "adalora", "lora": section})) == []
    assert "ADA101" in _codes(check_config(path, key=""))
    assert {"ADA101", "ADA104"} <= {*_codes(check_config(section | {"adapter": "adalora"}))}
    assert "ADA101" in _codes(check_config({"lora_alpha": 32}))


SWIFT = {"tuner_type": "adalora", "adalora_init_r": 12, "adalora_target_r": 8}
LUDWIG = {"adapter": {"type": "adalora", "init_r": 12, "target_modules": ["a"], "tinit": 9}}


@pytest.mark.filterwarnings("ignore::adalora_core.config.findings.ConfigWarning")
def test_validate_config_returns_what_is_whole_and_asks_for_one_of_several():
    with pytest.raises(ConfigError, match=r'one configuration .*name one by key="/a" or key="/b"'):
        validate_config({"a": SOUND, "b": SOUND})
    assert validate_config({"a": SOUND, "b": SOUND}, key="/b").init_r == SOUND["init_r"]
    lacking = {name: SOUND[name] for name in SOUND.keys() - {"total_step", "peft_type"}}
    late = {"lora": lacking | {"total_step": "${steps}"}, "method": "adalora"}
    for unknown in (json.dumps(SWIFT), late):
        assert check_config(unknown).ok
        with pytest.raises(ConfigError, match="values are all written in the source; use check"):
            validate_config(unknown)
    assert validate_config(json.dumps(LUDWIG)).lora_alpha == 16  # as Ludwig has it
    hydra = {"model": {"peft": lacking | {"_target_": "peft.AdaLoraConfig", "total_step": 999}}}
    assert validate_config(hydra).total_step == 999


def test_str_that_names_a_file_is_read_as_content(tmp_path):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(SOUND))
    assert _codes(check_config(str(path))) == ["ADA001"]


def test_array_in_place_of_a_number_is_a_finding():
    numpy = pytest.importorskip("numpy")
    for array in (numpy.zeros(10**6), numpy.zeros(1), numpy.zeros((2, 0))):
        document = SOUND | {"init_r": array}
        assert _codes(check_config(document)) == ["ADA102"]
        with pytest.raises(ConfigError, match=r"`init_r` should be an integer, got a.* list"):
            validate_config(document)


def test_source_of_another_type_raises_type_error():
    with pytest.raises(TypeError, match=r"expected JSON text .* got int"):
        check_config(3)


@pytest.mark.parametrize(
    ("option", "value"),
    [("runtime", "torch"), ("format", "xml"), ("peft_version", "main"), ("key", "peft")],
)
def test_option_with_an_impossible_value_raises_value_error(option, value):
    with pytest.raises(ValueError, match=r"expected|should start with"):
        check_config("{}", **{option: value})


def test_missing_file_and_directory_raise_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_config(tmp_path / "none.json")
    with pytest.raises(IsADirectoryError):
        check_config(tmp_path)


def test_pipe_as_source_raises_instead_of_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(OSError, match="Not a regular file"):
        check_config(tmp_path / "pipe.json")


def test_schema_key_for_editors_is_accepted_unless_keys_are_strict():
    config = {"$schema": "adalora-config.schema.json", **SOUND}
    assert _codes(check_config(config)) == []
    assert _codes(check_config(config, strict_keys=True)) == ["ADA104"]


def test_key_points_into_a_document_and_the_finding_out_of_it_has_the_full_pointer():
    report = check_config({"runs": [{"peft": SOUND | {"deltaT": 0}}]}, key="/runs/0/peft")
    assert [(d.code, d.pointer) for d in report.diagnostics] == [("ADA204", "/runs/0/peft/deltaT")]


@pytest.mark.parametrize("key", ["/nothing", "/runs/1", "/runs/x"])
def test_key_that_points_nowhere_is_a_finding(key):
    assert _codes(check_config({"runs": [SOUND]}, key=key)) == ["ADA006"]


def test_mapping_that_holds_itself_is_a_finding():
    config = dict(SOUND)
    config["alpha_pattern"] = config
    assert _codes(check_config(config)) == ["ADA005"]


def test_mapping_with_sets_tuples_and_members_is_taken_as_lists_and_strings():
    class Task(enum.StrEnum):
        CAUSAL_LM = "CAUSAL_LM"

    config = SOUND | {"target_modules": {"v", "q"}, "modules_to_save": ("a",)}
    assert _codes(check_config(config | {"task_type": Task.CAUSAL_LM})) == []


def test_more_findings_than_the_limit_are_cut_and_reported_as_cut():
    from adalora_core.floor.limits import Limits

    report = check_config(SOUND | {f"k{i}": 1 for i in range(9)}, limits=Limits(diagnostics=3))
    assert sorted(_codes(report)) == ["ADA005", "ADA104", "ADA104", "ADA104"]


def test_wrong_configuration_validated_raises_with_the_whole_report():
    with pytest.raises(ConfigError) as caught:
        validate_config(json.dumps(SOUND | {"deltaT": 0, "use_dora": True}))
    assert isinstance(caught.value, ValueError)
    assert {d.code for d in caught.value.report.errors} == {"ADA204", "ADA401"}
    assert "ADA204" in str(caught.value)
    assert "ADA401" in str(caught.value)


def test_warning_validated_goes_through_warnings_at_the_callers_line():
    with pytest.warns(ConfigWarning, match="ADA303") as caught:
        validate_config(SOUND | {"r": 4})
    assert caught[0].filename == __file__


def test_unknown_key_validated_is_left_out_of_the_model():
    with pytest.warns(ConfigWarning, match="ADA104"):
        config = validate_config(SOUND | {"bogus": 1})
    assert not hasattr(config, "bogus")


def test_validate_config_has_the_arguments_of_check_config_and_another_result():
    checks, validates = map(inspect.signature, (check_config, validate_config))
    assert validates.parameters == checks.parameters
    assert validates.return_annotation == "AdaLoraConfig"
    with pytest.raises(TypeError, match="strictkeys"):
        validate_config(SOUND, strictkeys=True)


@pytest.mark.parametrize("text", [b"{}", b'{"a": {"peft_type": "ADALORA"}}', b"["])
def test_document_examined_is_as_it_was(text):
    document = decode(text, "json", DEFAULT_LIMITS)
    before = [*document.problems], document.fatal
    report = examine(document, "a.json", CheckOptions(), key="/b").report
    assert not report.ok
    assert (document.problems, document.fatal) == before
