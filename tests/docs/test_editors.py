"""The schema in the servers that editors run: files are opened, and what a person sees is read."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

import npm_packages
import pytest
from language_server import LanguageServer
from programs import run

from adalora_core.checker.check import check_config
from adalora_core.config.editor_schema import editor_schema
from adalora_core.config.schema import config_schema, to_text

pytestmark = pytest.mark.slow

WHOLE = (Path(__file__).parents[2] / "docs" / "editors.md").read_text("utf-8")
PAGE = WHOLE[WHOLE.index("\n## The schema\n") :]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(JSON_FILE, SETTINGS) = (text for language, text in BLOCKS if language == "json")
(YAML_FILE,) = (text for language, text in BLOCKS if language == "yaml")
(TOML_FILE,) = (text for language, text in BLOCKS if language == "toml")
SHOWN = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
PROGRAMS = {
    "json": "vscode-langservers-extracted/bin/vscode-json-language-server",
    "yaml": "yaml-language-server/bin/yaml-language-server",
}
FILES = {"json": JSON_FILE, "yaml": YAML_FILE}
PROPOSED = {"init_r", "target_r", "tinit", "tfinal", "deltaT", "total_step", "target_modules"}
NOT_PROPOSED = {"use_rslora", "use_dora", "r", "loftq_config", "delta_t", "lora_bias"}


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory):
    return npm_packages.node_modules(
        tmp_path_factory.mktemp("editors"),
        "the servers of editors read the schema",
    )


@pytest.fixture
def project(tmp_path):
    (tmp_path / "adalora.schema.json").write_text(to_text(editor_schema()))
    (tmp_path / "adalora.draft-07.schema.json").write_text(to_text(config_schema("draft-07")))
    return tmp_path


@pytest.fixture
def server(node_modules, project):
    """Start the server of a language with the settings of an editor."""
    with contextlib.ExitStack() as started:

        def start(language, **settings):
            section = {"validate": {"enable": True}} if language == "json" else {
                "validate": True, "hover": True, "completion": True,
                "schemaStore": {"enable": False},
            }  # fmt: skip
            process = LanguageServer(
                [shutil.which("node"), str(node_modules / PROGRAMS[language]), "--stdio"],
                project,
                {language: section | settings},
                {"handledSchemaProtocols": ["file"]},
            )
            return started.enter_context(process)

        yield start


def _write(project, name, text):
    path = project / name
    path.write_text(text)
    return path


def _line(text, start):
    return next(n for n, line in enumerate(text.splitlines()) if line.strip(' "').startswith(start))


def _seen(diagnostics, text):
    """Return `{key: messages}` of the lines that are marked."""
    lines = text.splitlines()
    seen = {}
    for diagnostic in diagnostics:
        key = re.match(r'\s*"?(\w+)', lines[diagnostic["range"]["start"]["line"]])
        seen.setdefault(key[1] if key else "", []).append(diagnostic["message"])
    return seen


@pytest.mark.parametrize("language", FILES)
def test_file_with_mistakes_is_marked_at_the_keys_with_the_messages_of_the_page(
    language, server, project
):
    path = _write(project, f"run.{language}", FILES[language])
    seen = _seen(server(language).open(path, language), FILES[language])
    assert seen == {key: [message] for key, message in SHOWN.items()}


@pytest.mark.parametrize("language", FILES)
def test_field_hovered_is_explained_with_its_rules(language, server, project):
    path = _write(project, f"run.{language}", FILES[language])
    editor = server(language)
    editor.open(path, language)
    hover = editor.at("hover", path, _line(FILES[language], "init_lora"), 4)
    shown = json.dumps(hover["contents"])
    assert "the adapter has no effect at the start" in shown
    assert "`ADA402` (error): loftq_config is not empty" in shown


STARTED = {
    "json": ('{\n  "$schema": "./adalora.schema.json",\n  "bias": "",\n  \n}\n', (3, 2), (2, 11)),
    "yaml": ("# yaml-language-server: $schema=./adalora.schema.json\nbias: \n\n", (2, 0), (1, 6)),
}  # fmt: skip


def _proposals(answer):
    items = answer["items"] if isinstance(answer, dict) else answer
    return {item["label"].strip('"'): item.get("documentation") for item in items}


@pytest.mark.parametrize("language", STARTED)
def test_fields_and_values_proposed_are_those_that_work(language, server, project):
    text, at_key, at_value = STARTED[language]
    path = _write(project, f"new.{language}", text)
    editor = server(language)
    editor.open(path, language)
    fields = _proposals(editor.at("completion", path, *at_key))
    assert fields.keys() >= PROPOSED
    assert fields.keys().isdisjoint(NOT_PROPOSED)
    assert "Length of the final phase" in json.dumps(fields["tfinal"])
    values = _proposals(editor.at("completion", path, *at_value))
    assert "the biases of adapted modules are trained" in json.dumps(values["lora_only"])


@pytest.mark.parametrize("language", FILES)
def test_empty_file_is_begun_by_the_snippet(language, server, project):
    text = {"json": "", "yaml": STARTED["yaml"][0].split("\n")[0] + "\n"}[language]
    path = _write(project, f"empty.adalora.{language}", text)
    settings = {"schemas": [{"fileMatch": ["*.adalora.json"], "schema": editor_schema()}]}
    editor = server(language, **(settings if language == "json" else {}))
    editor.open(path, language)
    proposals = _proposals(editor.at("completion", path, text.count("\n"), 0))
    assert "AdaLoRA configuration" in proposals


@pytest.mark.parametrize("language", FILES)
def test_settings_of_a_project_mark_files_by_their_names(language, server, project):
    settings = json.loads(SETTINGS)[f"{language}.schemas"]
    if language == "json":
        # VS Code itself turns the relative address of its settings into one for the server.
        (entry,) = settings
        entry["url"] = (project / entry["url"]).resolve().as_uri()
    text = "\n".join(line for line in FILES[language].splitlines() if "$schema" not in line)
    path = _write(project, f"run.adalora.{language}", text)
    editor = server(language, schemas=settings)
    seen = _seen(editor.open(path, language), text)
    assert seen.keys() == SHOWN.keys()


@pytest.mark.parametrize("language", FILES)
def test_sound_file_and_saved_adapter_are_not_marked(language, server, project):
    saved = check_config(
        {"peft_type": "ADALORA", "target_modules": ["q"], "init_r": 12, "total_step": 9,
         "inference_mode": True}
    ).config.model_dump()  # fmt: skip
    saved = {"$schema": "./adalora.schema.json", **saved}
    text = json.dumps(saved, indent=2)
    if language == "yaml":
        text = "# yaml-language-server: $schema=./adalora.schema.json\n" + text
    path = _write(project, f"saved.{language}", text)
    assert server(language).open(path, language) == []


def test_toml_file_with_its_modeline_is_judged_by_taplo(node_modules, project):
    taplo = [shutil.which("node"), str(node_modules / "@taplo/cli/dist/cli.js"), "lint"]
    sound = TOML_FILE.replace("init_r = 0", "init_r = 12")
    for name, text, code in (("wrong.toml", TOML_FILE, 1), ("sound.toml", sound, 0)):
        _write(project, name, text)
        done = run(*taplo, name, cwd=project, timeout=600)
        assert done.returncode == code, done.stderr
        assert ("0 is less than the minimum of 1" in done.stderr) == bool(code)


@pytest.mark.parametrize(("language", "text"), [*FILES.items(), ("toml", TOML_FILE)])
def test_modelines_are_accepted_by_the_command_itself(language, text):
    codes = {finding.code for finding in check_config(text, format=language).diagnostics}
    assert codes.isdisjoint({"ADA001"})
    assert not any("$schema" in d.message for d in check_config(text, format=language).diagnostics)
    strict = check_config(text, format=language, strict_keys=True).errors
    assert any("$schema" in d.message for d in strict) == (language == "json")
