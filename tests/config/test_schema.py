"""The published schemas: generated, valid, and never stricter than the engine."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from contract_configs import SOUND, configurations
from hypothesis import given, settings

from adalora_core.checker.check import check_config
from adalora_core.checker.rules import RULES
from adalora_core.config.fields.table import LORA_FIELDS
from adalora_core.config.rules.base import SOUND_LORA
from adalora_core.config.schema import (
    DRAFTS,
    FILES,
    LORA_FILES,
    VERSION,
    config_schema,
    to_text,
)

SCHEMAS = Path(__file__).parents[2] / "schemas"
VALIDATORS = {
    "2020-12": jsonschema.Draft202012Validator,
    "draft-07": jsonschema.Draft7Validator,
}
LARGEST = 10_000


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize(("method", "files"), [("ADALORA", FILES), ("LORA", LORA_FILES)])
def test_committed_file_is_what_the_table_generates(draft, method, files):
    committed = (SCHEMAS / files[draft]).read_text(encoding="utf-8")
    expected = to_text(config_schema(draft, method=method))
    assert committed == expected, "run: python tools/regenerate.py schemas"


@pytest.mark.parametrize("draft", DRAFTS)
def test_written_text_reads_back_as_the_schema_and_is_small(draft):
    text = to_text(config_schema(draft))
    assert json.loads(text) == config_schema(draft)
    assert len(text.encode()) < LARGEST


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("strict_keys", [False, True])
def test_schema_is_valid_against_its_metaschema(draft, strict_keys):
    VALIDATORS[draft].check_schema(config_schema(draft, strict_keys=strict_keys))


def test_two_drafts_differ_in_their_header_alone():
    new, old = config_schema("2020-12"), config_schema("draft-07")
    assert {key for key in new if new[key] != old[key]} == {"$schema", "$id"}
    assert f"/{VERSION}/" in new["$id"]


@settings(max_examples=600)
@given(configurations())
def test_what_a_schema_rejects_the_engine_rejects(values):
    rejected = not VALIDATORS["2020-12"](config_schema()).is_valid(values)
    assert VALIDATORS["draft-07"](config_schema("draft-07")).is_valid(values) != rejected
    if rejected:
        report = check_config(values)
        assert not report.ok or report.config is None  # a LoRA, which `validate_config` refuses


@pytest.mark.parametrize("name", LORA_FIELDS)
def test_what_the_schema_of_lora_rejects_the_engine_rejects(name):
    validator = jsonschema.Draft202012Validator(config_schema(method="LORA"))
    assert validator.is_valid(SOUND_LORA)
    for value in (None, True, False, 0, 1, -1, 2.0, 0.5, "", "x", [], [1], ["x"], {}, {"x": 1}):
        values = SOUND_LORA | {name: value}
        assert validator.is_valid(values) or not check_config(values).ok, value


def test_schema_of_lora_rejects_what_it_can_state():
    validator = jsonschema.Draft202012Validator(config_schema(method="LORA"))
    for fields in ({"r": 0}, {"lora_dropout": 1.5}, {"bias": "lora"}, {"task_type": "CAUSALLM"},
                   {"rank_pattern": None}, {"layers_pattern": "layers"}):  # fmt: skip
        assert not validator.is_valid(SOUND_LORA | fields), fields


def test_schema_with_strict_keys_rejects_only_what_the_engine_does():
    validator = jsonschema.Draft202012Validator(config_schema(strict_keys=True))
    assert validator.is_valid(SOUND)
    assert not validator.is_valid(SOUND | {"delta_t": 1})
    assert not check_config(SOUND | {"delta_t": 1}, strict_keys=True).ok


GAPS = {
    "ADA106",  # 12.0 is an integer in JSON Schema
    "ADA202",  # the phases are compared with each other
    "ADA204",  # whether a step divides by deltaT depends on three numbers
    "ADA212",  # the first allocation depends on three numbers
    "ADA213",  # whether a run allocates depends on four numbers
    "ADA301",  # the ranks are compared with each other
    "ADA302",  # as for ADA301
    "ADA406",  # whether a run prunes depends on four numbers
    "ADA424",  # the classes of LoRA's variants change with every release
    "ADA423",  # the schema states the types of the indices, not their range
    "ADA501",  # JSON Schema cannot check whether Python accepts a regular expression
    "ADA504",  # the names at the top of a model are a long list
    "ADA505",  # a comma is legal in a regular expression: {1,2}
    "ADA508",  # what an expression can match takes more than a schema
    "ADA509",  # the names of transformers are a long list
    "ADA511",  # entries of two lists would have to be compared
    "ADA513",  # the names of published models are a long list
    "ADA512",  # a schema cannot see whether a target is a whole path
    "ADA507",  # all-linear in any case, which a portable pattern cannot state
    "ADA312",  # paths would have to be matched with the targets
    "ADA309",  # keys would need a pattern, which Python and ECMA read differently
}
"""Rules of severity error that the schema cannot state for their own bad example."""


def test_bad_example_of_an_error_rule_is_rejected_unless_listed_as_a_gap():
    validator = jsonschema.Draft202012Validator(config_schema())
    silent = {
        rule.code
        for rule in RULES
        if rule.severity == "error"
        and isinstance(rule.bad, dict)
        and not rule.example_options
        and validator.is_valid(rule.bad)
    }
    assert silent == GAPS, (
        "state the rule in `conflicts` of config/schema.py, or explain the gap in GAPS "
        "and in docs/contract/policy.md"
    )
