"""The schema for editors judges as the portable one does; every keyword has a reader."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from contract_configs import SOUND, configurations
from hypothesis import example, given, settings

from adalora_core.checker.check import check_config
from adalora_core.checker.rules import RULES
from adalora_core.config.editor_schema import CHOICES, FILE, KEYWORDS, editor_schema
from adalora_core.config.fields.table import FIELDS, Treatment
from adalora_core.config.schema import config_schema, to_text

SCHEMA = editor_schema()
PORTABLE = jsonschema.Draft7Validator(config_schema("draft-07"))
EDITOR = jsonschema.Draft7Validator(SCHEMA)
STANDARD = {
    "$schema", "$id", "title", "description", "default", "type", "enum",
    "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
    "minLength", "pattern", "maxProperties", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "if", "then", "else", "allOf", "anyOf", "not",
}  # fmt: skip


def _subschemas(schema):
    """Yield a schema and every schema inside it."""
    if isinstance(schema, bool):
        return
    yield schema
    for keyword, value in schema.items():
        if keyword == "properties":
            inner = list(value.values())
        elif keyword in {"allOf", "anyOf"}:
            inner = value
        elif keyword in {"if", "then", "else", "not", "items", "additionalProperties"}:
            inner = [value]
        else:
            inner = []
        for each in inner:
            yield from _subschemas(each)


def test_committed_file_is_what_the_table_generates():
    path = Path(__file__).parents[2] / "schemas" / FILE
    assert path.read_text("utf-8") == to_text(SCHEMA), "run: python tools/regenerate.py schemas"


def test_schema_is_valid_against_its_metaschema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_keywords_are_the_standard_ones_and_those_that_are_declared():
    used = {keyword for schema in _subschemas(SCHEMA) for keyword in schema}
    assert used <= STANDARD | set(KEYWORDS)
    assert set(KEYWORDS) <= used


@settings(max_examples=400)
@given(configurations())
@example({"peft_type": "ADALORA", "total_step": 1000, "beta1": None})
def test_schema_for_editors_accepts_what_the_portable_one_accepts(values):
    assert EDITOR.is_valid(values) == PORTABLE.is_valid(values)


def test_examples_of_the_rules_are_judged_as_by_the_portable_one():
    for rule in RULES:
        for shown in (rule.bad, rule.good):
            if isinstance(shown, dict):
                assert EDITOR.is_valid(shown) == PORTABLE.is_valid(shown), rule.code


def test_every_choice_has_its_description():
    for name, field in FIELDS.items():
        if field.choices is not None and len(field.choices) > 1:
            assert tuple(CHOICES[name]) == field.choices
            body = SCHEMA["properties"][name]
            # PEFT takes more words of bias than those that an editor proposes.
            body = body["anyOf"][0] if "anyOf" in body else body
            assert len(body["enumDescriptions"]) == len(body["enum"])


def test_what_adalora_ignores_or_refuses_is_not_proposed():
    hidden = {name for name, body in SCHEMA["properties"].items() if body.get("doNotSuggest")}
    assert {n for n, f in FIELDS.items() if f.treatment is not Treatment.HONOURED} <= hidden
    assert hidden.isdisjoint({"init_r", "target_r", "tinit", "tfinal", "total_step", "deltaT"})


def test_snippet_is_a_sound_configuration():
    (snippet,) = SCHEMA["defaultSnippets"]
    assert EDITOR.is_valid(snippet["body"])
    assert snippet["body"] == SOUND


@pytest.mark.parametrize(
    ("name", "value"),
    [("r", 16), ("runtime_config", {"ephemeral_gpu_offload": True}), ("use_rslora", True)],
)
def test_a_setting_without_effect_is_marked_with_the_code_of_the_check(name, value):
    marked = SCHEMA["properties"][name]["else"]["deprecationMessage"]
    found = {d.code for d in check_config(SOUND | {name: value}).diagnostics}
    assert found == {marked[:6]}
