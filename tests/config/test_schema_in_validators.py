"""The schemas in three validators that are not ours: they compile, and they judge alike.

jsonschema is Python, jsonschema-rs is Rust, ajv is JavaScript and runs in its strict mode.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import jsonschema_rs
import npm_packages
import pytest
from contract_configs import SOUND
from contract_corpus import CORPUS, unpacked

from adalora_core.config.editor_schema import FILE as EDITOR_FILE
from adalora_core.config.editor_schema import KEYWORDS
from adalora_core.config.fields.table import FIELDS, LORA_FIELDS
from adalora_core.config.rules.base import SOUND_LORA
from adalora_core.config.schema import FILES, LORA_FILES, config_schema

SCHEMAS = Path(__file__).parents[2] / "schemas"
WRONG = [
    SOUND | {"total_step": None},
    SOUND | {"init_r": "12"},
    SOUND | {"use_dora": True},
    SOUND | {"init_r": 0},
    SOUND | {"init_lora_weights": "loftq"},
    SOUND | {"target_modules": "q", "layers_pattern": "layers"},
]

ODD = [None, True, False, 0, 1, -1, 2.0, 0.5, "", "x", [], [1], ["x"], [True], {}, {"x": 1}]
CONFIGS = [
    SOUND,
    *WRONG,
    *(unpacked(entry["content"]) for entry in CORPUS),
    *(SOUND | {name: value} for name in FIELDS for value in ODD),
    *(SOUND | {name: value, "inference_mode": True} for name in FIELDS for value in ODD),
    *(SOUND_LORA | {name: value} for name in LORA_FIELDS for value in ODD),
]
"""Configurations of which the schemas refuse some, and accept others."""

PUBLISHED = [*FILES.values(), *LORA_FILES.values(), EDITOR_FILE]


@functools.cache
def _verdicts(file):
    """Return the verdicts of jsonschema, with which the other validators are compared."""
    schema = _schema(file)
    validator = jsonschema.validators.validator_for(schema)(schema)
    return [validator.is_valid(config) for config in CONFIGS]


def _schema(file):
    return json.loads((SCHEMAS / file).read_text("utf-8"))


# Compiles with every strict check an error, then prints the verdict on each configuration.
AJV = """
const {readFileSync} = require("fs");
const schema = JSON.parse(readFileSync(process.argv[1]));
const Ajv = require(schema.$schema.includes("2020-12") ? "ajv/dist/2020" : "ajv").default;
const ajv = new Ajv({strict: true, allErrors: true});
process.argv.slice(2).forEach((keyword) => ajv.addKeyword(keyword));
const validate = ajv.compile(schema);
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map((config) => validate(config))));
"""


@pytest.fixture(scope="session")
def ajv_modules(tmp_path_factory):
    return npm_packages.node_modules(
        tmp_path_factory.mktemp("ajv"),
        "the schemas compile in ajv's strict mode",
    )


def _ajv(modules, schema, configs, keywords=()):
    done = subprocess.run(
        [shutil.which("node"), "-e", AJV, str(schema), *keywords],
        env={"NODE_PATH": str(modules)},
        input=json.dumps(configs), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("file", PUBLISHED)
def test_published_schema_accepts_some_and_refuses_some(file):
    verdicts = _verdicts(file)
    is_lora = file in LORA_FILES.values()
    assert verdicts[: 1 + len(WRONG)] == [not is_lora] + [False] * len(WRONG)
    assert min(verdicts.count(True), verdicts.count(False)) > 200


@pytest.mark.slow
@pytest.mark.parametrize("file", PUBLISHED)
def test_published_schema_is_judged_alike_by_ajv_in_strict_mode(file, ajv_modules):
    keywords = KEYWORDS if file == EDITOR_FILE else ()
    assert _ajv(ajv_modules, SCHEMAS / file, CONFIGS, keywords) == _verdicts(file)


@pytest.mark.parametrize("file", PUBLISHED)
def test_published_schema_is_judged_alike_by_jsonschema_rs(file):
    schema = _schema(file)
    validator = jsonschema_rs.validator_for(schema)
    assert [validator.is_valid(config) for config in CONFIGS] == _verdicts(file)


@pytest.mark.slow
def test_schema_with_strict_keys_compiles_in_ajv_strict(ajv_modules, tmp_path):
    path = tmp_path / "strict.json"
    path.write_text(json.dumps(config_schema(strict_keys=True)))
    assert _ajv(ajv_modules, path, [SOUND, SOUND | {"delta_t": 1}]) == [True, False]


def test_schema_for_editors_compiles_in_ajv_strict_only_if_its_keywords_are_declared(ajv_modules):
    schema = SCHEMAS / EDITOR_FILE
    with pytest.raises(AssertionError, match="unknown keyword"):
        _ajv(ajv_modules, schema, [SOUND], KEYWORDS[:-1])
