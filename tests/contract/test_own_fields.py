"""What the runtime adalora-core alone knows: `importance_criterion`, and a start like LoRA's."""

from __future__ import annotations

import dataclasses
import functools
import json
import math

import jsonschema
import pytest
from contract_configs import SOUND
from pydantic import ValidationError

from adalora_core.checker.check import check_config
from adalora_core.config.fields.table import FIELDS, OWN_FIELDS
from adalora_core.config.model import AdaLoraConfig
from adalora_core.config.schema import config_schema

SNR = SOUND | {"importance_criterion": "snr"}
LORA = SOUND | {"init_lora_weights": "lora"}


def my_scores(path, tensors):
    raise NotImplementedError


def found(source, **options):
    return [(each.code, each.severity) for each in check_config(source, **options).diagnostics]


def test_peft_has_no_field_of_this_name():
    peft = pytest.importorskip("peft")
    theirs = {field.name for field in dataclasses.fields(peft.AdaLoraConfig)}
    assert OWN_FIELDS.keys().isdisjoint(theirs)
    assert OWN_FIELDS.keys().isdisjoint(FIELDS)
    with pytest.raises(TypeError, match="importance_criterion"):
        peft.AdaLoraConfig(**SNR)


def test_under_peft_the_key_is_unknown_and_the_finding_says_who_reads_it():
    report = check_config(SNR)
    assert found(SNR) == [("ADA104", "warning")]
    (finding,) = report.diagnostics
    assert "PEFT 0.21 has no such field and ignores it" in finding.message
    assert "only the runtime adalora-core reads it" in finding.message
    assert "--runtime adalora-core" in finding.hint
    assert finding.fix is None
    assert report.config.importance_criterion == "sensitivity"
    assert found(SNR, strict_keys=True) == [("ADA104", "error")]


def test_the_other_runtime_reads_it():
    report = check_config(SNR, runtime="adalora-core", strict_keys=True)
    assert report.diagnostics == ()
    assert report.config.importance_criterion == "snr"


@pytest.mark.parametrize(
    ("value", "code"),
    [("SNR", "ADA107"), ("gradient", "ADA107"), (3, "ADA102"), (None, "ADA102"), ([], "ADA102")],
)
def test_a_wrong_value_is_an_error_everywhere(value, code):
    fields = SOUND | {"importance_criterion": value}
    assert found(fields, runtime="adalora-core") == [(code, "error")]
    with pytest.raises(ValidationError, match=code):
        AdaLoraConfig(**fields)
    config = AdaLoraConfig(**SOUND)
    with pytest.raises(ValidationError, match=code):
        config.importance_criterion = value
    assert config.importance_criterion == "sensitivity"


def test_a_function_is_a_value_in_python():
    config = AdaLoraConfig(**SOUND, importance_criterion=my_scores)
    assert config.importance_criterion is my_scores
    assert dataclasses.replace(config, target_r=3).importance_criterion is my_scores


def of_one(tensors):
    raise NotImplementedError


def with_option(path, tensors, *, scale):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (of_one, r"a function of \(tensors\)"),
        (with_option, r"a function of \(path, tensors, scale\)"),
        (functools.partial(my_scores, "", {}), "a partial"),
    ],
)
def test_a_function_that_cannot_be_called_with_path_and_tensors_is_refused(function, got):
    said = rf"should be a string or a function of \(path, tensors\), got {got}"
    with pytest.raises(ValidationError, match=said):
        AdaLoraConfig(**SOUND, importance_criterion=function)
    config = AdaLoraConfig(**SOUND)
    with pytest.raises(ValidationError, match=said):
        config.importance_criterion = function


class Scorer:
    def __call__(self, path, tensors):
        raise NotImplementedError


@pytest.mark.parametrize(
    "function",
    [
        lambda *_: None,
        Scorer(),
        Scorer().__call__,
        functools.partial(with_option, scale=2),
        math.hypot,  # nothing is known of its parameters
    ],
)
def test_every_way_to_write_such_a_function_is_accepted(function):
    assert AdaLoraConfig(**SOUND, importance_criterion=function).importance_criterion == function


def test_no_file_of_peft_holds_it(tmp_path):
    peft = pytest.importorskip("peft")
    for value in ("snr", my_scores):
        config = AdaLoraConfig(**SOUND, importance_criterion=value)
        config.save_pretrained(tmp_path)
        assert "importance_criterion" not in json.loads(
            (tmp_path / "adapter_config.json").read_text()
        )
    loaded = peft.AdaLoraConfig.from_pretrained(tmp_path)
    assert loaded.target_r == SOUND["target_r"]


def test_the_schema_of_peft_does_not_know_it_and_that_of_the_model_does():
    assert "importance_criterion" not in config_schema()["properties"]
    own = AdaLoraConfig.model_json_schema()["properties"]["importance_criterion"]
    assert (own["type"], own["default"]) == ("string", "sensitivity")


@pytest.mark.parametrize(
    ("module", "expected"), [("peft", [("ADA104", "error")]), ("adalora_core", [])]
)
def test_a_script_is_judged_by_the_class_that_it_calls(module, expected, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        f"from {module} import AdaLoraConfig\n"
        "config = AdaLoraConfig(target_modules=['q_proj'], init_r=12, target_r=8, deltaT=10,\n"
        "    tinit=100, tfinal=200, total_step=1000, importance_criterion='snr')\n"
    )
    assert found(script) == expected


def test_a_value_that_is_not_known_is_not_judged(tmp_path):
    call = f"AdaLoraConfig(**{SOUND!r}, importance_criterion=my_scores)"
    script = tmp_path / "train.py"
    script.write_text(f"from adalora_core import AdaLoraConfig\n{call}\n")
    assert found(script) == []


def test_the_start_of_lora_is_a_finding_where_peft_alone_trains(tmp_path):
    (finding,) = check_config(LORA).diagnostics
    assert (finding.code, finding.severity, finding.fix) == ("ADA407", "warning", None)
    assert "no effect in PEFT alone, which reads it as true" in finding.message
    assert "--runtime adalora-core" in finding.hint
    assert found(LORA, runtime="adalora-core") == []
    assert found(LORA | {"inference_mode": True}) == found(SOUND | {"inference_mode": True})
    for runtime in ("peft", "adalora-core"):
        # A word that no runtime knows is a finding of both, also in another spelling.
        assert found(SOUND | {"init_lora_weights": "LoRA"}, runtime=runtime) == [
            ("ADA407", "warning")
        ]
        with_bias = check_config(LORA | {"lora_bias": True}, runtime=runtime)
        assert [(each.code, each.severity) for each in with_bias.diagnostics] == [
            ("ADA418", "error")
        ]
        assert with_bias.diagnostics[0].hint == "remove lora_bias (AdaLoRA does not read it)"
    call = f"AdaLoraConfig(**{LORA!r})"
    for module, expected in (
        ("peft", [("ADA407", "warning")]),
        ("adalora_core", []),
        ("adalora_core.peft", []),
    ):
        script = tmp_path / "train.py"
        script.write_text(f"from {module} import AdaLoraConfig\n{call}\n")
        assert found(script) == expected, module
    assert AdaLoraConfig(**LORA).init_lora_weights == "lora"


def test_the_schema_accepts_the_start_of_lora_but_not_beside_a_bias():
    validator = jsonschema.Draft202012Validator(config_schema())
    assert validator.is_valid(LORA)
    assert not validator.is_valid(LORA | {"lora_bias": True})
