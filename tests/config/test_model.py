"""`AdaLoraConfig`: accepted values, refused values, written values."""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import json
import pickle
import subprocess
import sys

import pytest
from contract_configs import configurations
from hypothesis import example, given
from pydantic import ValidationError

from adalora_core.checker.check import check_config
from adalora_core.config.fields.table import ALL_FIELDS
from adalora_core.config.findings import ConfigWarning
from adalora_core.config.model import AdaLoraConfig


def test_model_has_exactly_the_fields_of_the_table_in_their_order():
    assert list(AdaLoraConfig.model_fields) == list(ALL_FIELDS)


def test_field_left_out_has_the_tables_default():
    config = AdaLoraConfig(total_step=1000)
    for name, field in ALL_FIELDS.items():
        if name != "total_step":
            assert getattr(config, name) == field.default, name


@pytest.mark.parametrize(
    "fields",
    [
        {"target_r": 8},
        {"tinit": 500, "tfinal": 500, "total_step": 1000},
        {"total_step": 1000, "use_dora": True},
        {"total_step": 1000, "bogus": 1},
        {"total_step": 1000, "init_r": "12"},
        {"total_step": 1000, "init_r": 12.5},
        {"total_step": True},
        {"total_step": 1000, "orth_reg_weight": float("nan")},
    ],
)
def test_impossible_configuration_raises_value_error(fields):
    with pytest.raises(ValueError):  # noqa: PT011 - the type is what is promised
        AdaLoraConfig(**fields)


def test_a_float_without_a_fraction_is_taken_as_an_integer_with_a_warning():
    with pytest.warns(ConfigWarning, match=r"`total_step` 1000\.0 is taken as 1000 \(ADA106\)"):
        config = AdaLoraConfig(total_step=1000.0)
    config.init_r = 16.0
    assert [type(each) for each in (config.total_step, config.init_r)] == [int, int]


def test_numbers_of_numpy_become_those_of_python():
    numpy = pytest.importorskip("numpy")
    config = AdaLoraConfig(
        total_step=numpy.int64(100),
        init_r=numpy.array(16),
        beta1=numpy.float32(0.5),
        fan_in_fan_out=numpy.bool_(True),
        layers_to_transform=[numpy.int32(1)],
        target_modules=numpy.array(["v", "q"]),
    )
    found = (config.total_step, config.init_r, config.beta1, config.fan_in_fan_out)
    assert found == (100, 16, 0.5, True)
    assert [type(each) for each in found] == [int, int, float, bool]
    assert type(config.layers_to_transform[0]) is int
    assert config.target_modules == ["q", "v"]
    assert json.loads(json.dumps(config.to_json_dict()))["total_step"] == 100


def test_the_signature_shows_the_defaults():
    parameters = inspect.signature(AdaLoraConfig).parameters
    assert parameters["init_r"].default == 12
    assert parameters["total_step"].default is None
    assert parameters["loftq_config"].default == {}
    assert AdaLoraConfig(total_step=9).loftq_config is not AdaLoraConfig(total_step=9).loftq_config


def test_the_functions_of_dataclasses_work():
    config = AdaLoraConfig(total_step=100, target_modules=["q"])
    changed = dataclasses.replace(config, init_r=16)
    assert (changed.init_r, changed.total_step, config.init_r) == (16, 100, 12)
    assert isinstance(changed, AdaLoraConfig)
    with pytest.raises(ValueError, match="ADA202"):
        dataclasses.replace(config, tfinal=100)
    not_written = {"runtime_config": None, "importance_criterion": "sensitivity"}
    assert dataclasses.asdict(config) == config.to_json_dict() | not_written
    assert {field.name for field in dataclasses.fields(config)} == {*AdaLoraConfig.model_fields}


def test_a_copy_is_independent_and_a_subclass_has_the_same_fields():
    config = AdaLoraConfig(total_step=100, rank_pattern={"q.lora_E": [True] * 12})
    read = pickle.loads(pickle.dumps(config))  # noqa: S301 - written in this line
    for copied in (copy.deepcopy(config), config.model_copy(), read):
        assert copied == config
        copied.rank_pattern = None
        assert config.rank_pattern is not None

    class Named(AdaLoraConfig):
        name: str = "run"

    assert Named(total_step=9).rank_pattern is None


class TestFolders:
    def test_a_saved_configuration_is_read_again(self, tmp_path):
        config = AdaLoraConfig(total_step=100, target_modules=["q"], task_type="CAUSAL_LM")
        config.save_pretrained(tmp_path / "new" / "sub", auto_mapping_dict={"a": "b"})
        read = AdaLoraConfig.from_pretrained(tmp_path / "new", subfolder="sub")
        assert read.to_json_dict() == config.to_json_dict() | {"auto_mapping": {"a": "b"}}

    def test_keys_of_a_newer_peft_are_ignored_with_a_warning(self, tmp_path):
        values = {"peft_type": "ADALORA", "total_step": 100, "new_key": 1, "runtime_config": {}}
        (tmp_path / "adapter_config.json").write_text(json.dumps(values))
        with pytest.warns(ConfigWarning, match="new_key"):
            assert AdaLoraConfig.from_pretrained(tmp_path).total_step == 100

    @pytest.mark.parametrize("text", ["", "[1]", '{"total_step": -1}', '{"peft_type": "LORA"}'])
    def test_a_bad_file_is_a_value_error(self, tmp_path, text):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(ValueError):  # noqa: PT011 - the type is what is promised
            AdaLoraConfig.from_pretrained(tmp_path)

    def test_a_folder_without_the_file_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"adapter_config\.json' is missing"):
            AdaLoraConfig.from_pretrained(tmp_path)

    def test_nothing_of_the_network_is_loaded_for_a_folder(self, tmp_path):
        AdaLoraConfig(total_step=9).save_pretrained(tmp_path)
        code = (
            "import sys; from adalora_core import AdaLoraConfig;"
            f"AdaLoraConfig.from_pretrained({str(tmp_path)!r});"
            "print({'torch', 'peft', 'transformers', 'huggingface_hub'} & {*sys.modules})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout.split() == [b"set()"]


def test_all_faults_are_listed_in_one_error():
    with pytest.raises(ValidationError) as caught:
        AdaLoraConfig(total_step=0, init_r="{x}", beta1=2, use_dora=True, bogus=1)
    assert {error["loc"][0] for error in caught.value.errors()} == {
        "total_step", "init_r", "beta1", "use_dora", "bogus"
    }  # fmt: skip
    for code in ("ADA201", "ADA102", "ADA103", "ADA401", "ADA104"):
        assert code in str(caught.value)
    assert "`bogus`: AdaLoraConfig has no such field" in str(caught.value)


@pytest.mark.parametrize(
    "modules",
    [["v", "q"], ("v", "q"), {"v", "q"}, frozenset("vq"), {"v": 1, "q": 2}.keys(),
     {1: "v", 2: "q"}.values()],
)  # fmt: skip
def test_module_list_of_any_kind_is_stored_sorted(modules):
    config = AdaLoraConfig(total_step=10, target_modules=modules, exclude_modules=modules)
    assert config.target_modules == config.exclude_modules == ["q", "v"]


def test_member_of_a_string_enum_is_taken_for_its_value():
    class TaskType(str, enum.Enum):  # noqa: UP042 - as PEFT has it
        CAUSAL_LM = "CAUSAL_LM"

    config = AdaLoraConfig(total_step=10, task_type=TaskType.CAUSAL_LM)
    assert type(config.task_type) is str


def test_equal_ranks_and_null_total_step_for_inference_build():
    assert AdaLoraConfig(total_step=10, init_r=8, target_r=8).init_r == 8
    assert AdaLoraConfig(inference_mode=True).total_step is None


def test_setting_without_effect_warns_at_the_callers_line():
    with pytest.warns(ConfigWarning, match="will be ignored") as caught:
        AdaLoraConfig(total_step=10, r=16)
    assert caught[0].filename == __file__


def test_assignment_of_a_fitting_value_is_taken_and_of_another_refused():
    config = AdaLoraConfig(total_step=10)
    config.tinit = 3
    config.target_modules = ("v", "q")
    assert (config.tinit, config.target_modules) == (3, ["q", "v"])
    for name, value in [("tinit", "x"), ("tinit", -1), ("deltaT", 0), ("total_step", 0)]:
        with pytest.raises(ValidationError):
            setattr(config, name, value)
    with pytest.raises(ValueError, match="bogus"):
        config.bogus = 1
    assert (config.tinit, config.deltaT, config.total_step) == (3, 1, 10)


def test_assignment_across_fields_is_left_to_the_next_check():
    config = AdaLoraConfig(total_step=10)
    config.tinit = 50
    assert not check_config(config.to_json_dict()).ok


def test_json_dict_written_has_the_fifty_keys_sorted_and_reads_back():
    config = AdaLoraConfig(total_step=1000, target_modules={"v", "q"}, tfinal=100)
    content = config.to_json_dict()
    assert len(content) == 50
    assert list(content) == sorted(content)
    assert AdaLoraConfig(**json.loads(json.dumps(content))) == config


@example({"modules_to_save": {"": None}})
@given(configurations())
def test_model_and_engine_agree_on_every_configuration(values):
    report = check_config(values, runtime="adalora-core", strict_keys=True)
    if report.ok and report.method == "ADALORA":
        assert report.config is not None
    else:
        with pytest.raises(ValidationError):
            AdaLoraConfig(**values)


def test_total_step_auto_is_accepted_where_a_callback_can_bind_it():
    config = AdaLoraConfig(total_step="auto", tinit=500, tfinal=500)
    assert config.total_step == config.to_json_dict()["total_step"] == "auto"
    config.total_step = 2000
    config.total_step = "auto"


def test_total_step_auto_hides_no_other_finding():
    with pytest.raises(ValidationError, match="init_r") as caught:
        AdaLoraConfig(total_step="auto", init_r=0, use_dora=True)
    assert {error["loc"][0] for error in caught.value.errors()} == {"init_r", "use_dora"}


def test_total_step_auto_is_an_error_where_peft_trains():
    source = {"peft_type": "ADALORA", "total_step": "auto", "tfinal": 5}
    assert check_config(source, runtime="adalora-core").ok
    assert [each.pointer for each in check_config(source).errors] == ["/total_step"]


@pytest.mark.parametrize("value", ["Auto", "", "10"])
def test_total_step_of_any_other_text_is_refused(value):
    with pytest.raises(ValidationError, match="total_step"):
        AdaLoraConfig(total_step=value)
