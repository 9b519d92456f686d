"""A policy and a configuration, of which either may be hostile, take little time together."""

from __future__ import annotations

import itertools
import json
import math

import jsonschema
import pytest
from contract_configs import SOUND

from adalora_core.checker.check import check_config
from adalora_core.checker.pipeline.bounded_schema import bounded, bounds

SECONDS, MEMORY = 2 * 1, 300 << 20
CHECK = """
IMPORTS = ("adalora_core.checker.pipeline.policy",)
def main(argv):
    from adalora_core.commands.cli import main
    return main(["check", "--isolated", "-o", "concise", "--policy", "p.json", "--", "a.json"])
"""
REFUSED = "p.json: the policy takes more than"
MANY = 60_000
NAMES = [f"k{i}" for i in range(MANY)]
OBJECTS = [{"a": i} for i in range(MANY)]
DOUBLED = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(9)}


def _of_x(schema, **more):
    return {"properties": {"x": schema}, **more}


def _items(schema):
    return _of_x({"items": schema})


MIXED = ["".join(each) for each in itertools.islice(itertools.permutations("seitreporPnim"), 9702)]
"""Words of the letters of a keyword that are not close enough to it."""

CASES = {
    # What an honest policy says of a hostile configuration.
    "unique-objects": (_of_x({"uniqueItems": True}), OBJECTS, "0 errors"),
    "unique-of-kinds": (
        _of_x({"uniqueItems": True}), [i if i % 2 else str(i) for i in range(MANY)], "0 errors"
    ),
    "unique-of-draft-3": (
        _of_x({"uniqueItems": True}, **{"$schema": "http://json-schema.org/draft-03/schema#"}),
        OBJECTS, "0 errors",
    ),
    "names": (
        _of_x({"propertyNames": {"maxLength": 1}}), dict.fromkeys(NAMES), "more than 1000 findings"
    ),
    "unevaluated": (_of_x({"unevaluatedProperties": False}), dict.fromkeys(NAMES), REFUSED),
    "unevaluated-by-patterns": (
        _of_x({"patternProperties": {"^k": True}, "unevaluatedProperties": False}),
        dict.fromkeys(NAMES), REFUSED,
    ),
    "long-numbers": (_items({"multipleOf": 0.1}), [10**3999] * 900, REFUSED),
    # What a hostile policy says.
    "enum-of-objects": (_of_x({"enum": OBJECTS}), {"a": -1}, REFUSED),
    "enum-of-each": (_items({"enum": NAMES}), [f"j{i}" for i in range(MANY)], REFUSED),
    "const-of-each": (
        _of_x({"allOf": [{"$ref": "#/$defs/c"}] * 3000}, **{"$defs": {"c": {"const": [0] * MANY}}}),
        [0] * MANY, REFUSED,
    ),
    "messages": (_of_x({"allOf": [{"maxItems": 0}] * 9000}), NAMES, REFUSED),
    "messages-of-alternatives": (_of_x({"anyOf": [{"maxItems": 0}] * 9000}), NAMES, REFUSED),
    "properties": (_items({"properties": {key: {} for key in NAMES}}), [{}] * MANY, REFUSED),
    "required": (_items({"required": NAMES}), [{}] * 30_000, "more than 1000 findings"),
    "required-by-one": (_items({"anyOf": [{"required": NAMES}]}), [{}] * 3, REFUSED),
    "empty-schemas": (_items({"allOf": [{}] * MANY}), [1] * MANY, REFUSED),
    "true-schemas": (_items({"allOf": [True] * MANY}), [1] * MANY, REFUSED),
    "unevaluated-by-many": (
        _of_x(
            {"$ref": "#/$defs/d0", "unevaluatedProperties": False},
            **{"$defs": {**DOUBLED, "d9": {"patternProperties": {"^a": True}}}},
        ),
        {f"{'ab'[i % 2]}{i}": 1 for i in range(2000)}, REFUSED,
    ),
    # What is wrong with a policy itself.
    "many-schemas": ({"properties": {key: {} for key in NAMES}}, None, REFUSED),
    "types": (_of_x({"type": OBJECTS}), None, REFUSED),
    "misspellings": (
        {"$defs": {f"d{i}": dict.fromkeys(MIXED[i % 98 :: 98], 0) for i in range(980)}},
        None, REFUSED,
    ),
    "files": ({"allOf": [{"$ref": f"p.json?{i}"} for i in range(200)], "title": "a" * 50_000},
        None, "the policy takes more than"),
    "long-references": (
        {
            "$defs": {"A" * 300_000: {}, "r": {"$ref": "#/$defs/" + "%41" * 300_000}},
            "allOf": [{"$ref": "#/$defs/r"}] * 100,
        },
        None, "a $ref has more than 1000 characters",
    ),
    "long-texts": (
        _of_x({"allOf": [{"$ref": "#/$defs/c"}] * 900}, **{"$defs": {"c": {"const": "a"}}}),
        "b" * 3_000_000, REFUSED,
    ),
    "words": (_of_x(dict.fromkeys(NAMES, 1)), None, "more than 100 words that are no keywords"),
}  # fmt: skip
"""The policy, the value of the key `x`, and words of the report."""
FAST = {"files", "unique-objects", "enum-of-objects", "messages", "unevaluated-by-patterns"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in CASES]
)
def test_policy_is_bounded(confined, name):
    confined.memory = 4 << 30
    policy, value, words = CASES[name]
    confined.write({"p.json": json.dumps(policy), "a.json": json.dumps(SOUND | {"x": value})})
    used = confined.measure(CHECK)
    assert words in used.shown, used.shown[-2000:]
    assert used.seconds < SECONDS
    assert used.memory < MEMORY


@pytest.mark.parametrize("divisor", [0.1, 0.5, 3, 5e-324])
@pytest.mark.parametrize("number", ["1" + "0" * 3999, "NaN", "Infinity", "-Infinity", "1e308"])
def test_multiple_of_any_number_has_an_answer(number, divisor):
    policy = {"properties": {"total_step": {"multipleOf": divisor}}}
    report = check_config(json.dumps(SOUND).replace("1000", number), policy=policy)
    is_multiple = divisor != 3 and math.isfinite(float(number[:300]))
    assert ("ADA010" in {each.code for each in report.diagnostics}) == (not is_multiple)


VALUES = [
    None, True, False, 0, 1, 1.0, -0.0, 2, 0.5, "", "1", "True", [], [1], [1.0], [True], ["1"], {},
    {"a": 1}, {"a": 1.0}, {"a": True}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, [[1], [1]], [1, 1.0],
    [{"a": 1}, {"a": 1}], [{"a": 1}, {"a": 2}], [0, False], [1, "1"], [None, None], 10**30, 0.3,
]  # fmt: skip


def test_keywords_agree_with_the_library():
    kind = jsonschema.Draft202012Validator
    schemas = [{"uniqueItems": True}, {"multipleOf": 0.1}, {"multipleOf": 3}]
    schemas += [{"const": value} for value in VALUES]
    schemas += [{"enum": list(pair)} for pair in itertools.pairwise(VALUES)]
    for schema, value in itertools.product(schemas, VALUES):
        wanted = [error.message for error in kind(schema).iter_errors(value)]
        with bounds((), value):
            found = [error.message for error in bounded(kind)(schema).iter_errors(value)]
        assert found == wanted, (schema, value)
