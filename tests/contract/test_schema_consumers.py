"""The portable schemas in validators that are not ours: ajv in strict mode, fastjsonschema."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import fastjsonschema
import npm_packages
import pytest
from contract_configs import SOUND

from adalora_core.contract.schemas.config import FILES, config_schema
from adalora_core.contract.schemas.editor import FILE as EDITOR_FILE
from adalora_core.contract.schemas.editor import KEYWORDS

SCHEMAS = Path(__file__).parents[2] / "schemas"
WRONG = [
    SOUND | {"total_step": None},
    SOUND | {"init_r": "12"},
    SOUND | {"use_dora": True},
    SOUND | {"init_r": 8},
    SOUND | {"tinit": 500, "tfinal": 500},
    SOUND | {"target_modules": "q", "layers_pattern": "layers"},
]

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


@pytest.mark.parametrize("draft", FILES)
def test_committed_schema_compiles_in_ajv_strict_and_judges_alike(draft, ajv_modules):
    assert _ajv(ajv_modules, SCHEMAS / FILES[draft], [SOUND, *WRONG]) == [True] + [False] * len(
        WRONG
    )


def test_schema_with_strict_keys_compiles_in_ajv_strict(ajv_modules, tmp_path):
    path = tmp_path / "strict.json"
    path.write_text(json.dumps(config_schema(strict_keys=True)))
    assert _ajv(ajv_modules, path, [SOUND, SOUND | {"delta_t": 1}]) == [True, False]


def test_schema_for_editors_compiles_in_ajv_strict_once_its_keywords_are_declared(ajv_modules):
    schema = SCHEMAS / EDITOR_FILE
    verdicts = [True] + [False] * len(WRONG)
    assert _ajv(ajv_modules, schema, [SOUND, *WRONG], KEYWORDS) == verdicts
    with pytest.raises(AssertionError, match="unknown keyword"):
        _ajv(ajv_modules, schema, [SOUND], KEYWORDS[:-1])


def test_ajv_in_strict_mode_refuses_a_keyword_of_our_own(ajv_modules, tmp_path):
    # Without this the tests above could pass in a mode that is not strict.
    path = tmp_path / "own.json"
    path.write_text(json.dumps(config_schema() | {"x-adalora": 1}))
    with pytest.raises(AssertionError, match="unknown keyword"):
        _ajv(ajv_modules, path, [SOUND])


def test_draft_07_schema_compiles_in_fastjsonschema_and_judges_alike():
    validate = fastjsonschema.compile(json.loads((SCHEMAS / FILES["draft-07"]).read_text("utf-8")))
    validate(dict(SOUND))
    for config in WRONG:
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            validate(dict(config))
