"""Test `--policy`: an organisation's own schema, its positions and messages, broken policies."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from pages import run_sessions

from adalora_core.checker.check import check_config
from adalora_core.config.rules.base import SOUND
from adalora_core.floor.errors import PolicyError

EXAMPLES = Path(__file__).parents[2] / "examples" / "policies"

ALLOWED = SOUND | {
    "base_model_name_or_path": "Qwen/Qwen3-4B",
    "revision": "0123456789abcdef0123456789abcdef01234567",
}
"""A configuration that every example policy accepts."""


@pytest.fixture
def refused(check, write):
    """Check SOUND and some fields under a policy; return place, message and hint of each."""

    def run(policy, **fields):
        path = write(json.dumps({"peft": SOUND | fields}, indent=1), "run.json")
        if not isinstance(policy, Path):
            policy = write(policy, "policy.json")
        code, out, err = check(path, "--policy", policy, "-o", "json", "--select", "ADA010")
        assert err == ""
        (report,) = json.loads(out)["reports"]
        assert code == (1 if report["diagnostics"] else 0)
        return [(d["pointer"], d["message"], d["hint"]) for d in report["diagnostics"]]

    return run


def test_policy_is_checked_on_top_at_the_same_positions(check, write):
    schema = {
        "properties": {"init_r": {"maximum": 8, "description": "large ranks cost memory"}},
        "required": ["revision"],
    }
    path = write(json.dumps({"peft": SOUND | {"deltaT": 0}}, indent=1), "run.json")
    code, out, _ = check(path, "--policy", write(schema, "policy.json"), "-o", "json")
    assert code == 1
    first, second, third = json.loads(out)["reports"][0]["diagnostics"]
    assert (first["code"], first["pointer"]) == ("ADA010", "/peft")
    assert (second["pointer"], second["hint"]) == ("/peft/init_r", "large ranks cost memory")
    line = path.read_text().splitlines()[second["span"]["start"]["line"] - 1]
    assert line[second["span"]["start"]["column"] - 1 :] == "12,"
    assert third["code"] == "ADA204"


@pytest.mark.parametrize(
    ("policy", "pointer", "message"),
    [
        ({"required": ["r", "revision"]}, "/peft", "the policy refuses this: `revision` is req"),
        ({"properties": {"r": False}}, "/peft/r", "the policy refuses this: `r` is not allowed"),
        (
            {"properties": {"init_r": {"maximum": 8}}},
            "/peft/init_r",
            "the policy refuses this: `init_r`: 12 is greater than the maximum of 8",
        ),
        (
            {"properties": {"init_r": {"maximum": 8, "title": "Too large"}}},
            "/peft/init_r",
            "Too large: `init_r`: 12 is greater than the maximum of 8",
        ),
        (
            {"properties": {"target_modules": {"items": {"enum": ["q_proj"]}}}},
            "/peft/target_modules/1",
            "the policy refuses this: `target_modules`: 'v_proj' is not one of ['q_proj']",
        ),
        (
            {"properties": {"init_r": {"anyOf": [{"const": 4}, {"minimum": 16}]}}},
            "/peft/init_r",
            "`init_r`: 4 was expected or `init_r`: 12 is less than the minimum of 16",
        ),
        (
            {"properties": dict.fromkeys([*SOUND], True), "additionalProperties": False},
            "/peft/r",
            "the policy refuses this: `r` is not allowed",
        ),
        (
            {"oneOf": [{"required": ["r"]}, {"required": ["init_r"]}]},
            "/peft",
            "the configuration matches several alternatives of which only one is allowed",
        ),
        ({"not": {"required": ["r"]}}, "/peft", "the configuration has a form that is not allowed"),
    ],
)
def test_message_names_what_is_refused_without_the_whole_value(refused, policy, pointer, message):
    ((place, text, _),) = refused(policy, r=4)
    assert place == pointer
    assert message in text
    assert "ADALORA" not in text


def test_hint_is_the_description_of_the_key_that_is_missing(refused):
    policy = {"required": ["revision"], "properties": {"revision": {"description": "pin it"}}}
    assert refused(policy)[0][2] == "pin it"
    assert refused({"required": ["revision"]})[0][2] == "ask the author of the policy"


def test_policy_applies_to_what_is_written_and_not_to_the_defaults(check, write):
    path = write({key: value for key, value in SOUND.items() if key != "init_r"})
    policy = write({"properties": {"init_r": {"maximum": 8}}}, "policy.json")
    assert check(path, "--policy", policy)[0] == 0


def test_policy_finding_is_suppressed_like_any_other(check, write):
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in SOUND.items())
    path = write(text.replace("init_r: 12", "init_r: 12  # adalora: ignore[ADA010]"), "a.yaml")
    policy = write({"properties": {"init_r": {"maximum": 8}}}, "policy.json")
    assert "suppressed 1 finding" in check(path, "--policy", policy)[1]


def test_configuration_of_another_method_is_not_held_against_the_policy(check, write):
    policy = write({"required": ["revision"]}, "policy.json")
    for method, codes in (("IA3", ["ADA105"]), ("LORA", [])):
        _, out, _ = check(write({"peft_type": method}), "--policy", policy, "-o", "json")
        assert [d["code"] for d in json.loads(out)["reports"][0]["diagnostics"]] == codes


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("{", "line 1, column 2: not valid JSON"),
        ("[1]", "expected a JSON Schema (an object with keys), got a list"),
        ('{"type": 3}', "not a valid JSON Schema at /type"),
        ('{"properties": {"bias": {"pattern": "("}}}', "at /properties/bias/pattern"),
        ('{"required": ["r"], "required": []}', "line 1, column 21: the key 'required' appears 2"),
        (
            '{"$schema": "http://json-schema.org/draft-99/schema"}',
            "is not a supported draft of JSON Schema",
        ),
        ('{"$schema": 7}', "is not a supported draft of JSON Schema"),
        ('{"$ref": "#/$defs/none"}', "cannot be resolved"),
        ('{"properties": {"init_r": {"$ref": "gone.json"}}}', "gone.json: No such file"),
        ('{"properties": {"init_r": {"$ref": "bad.json"}}}', "not a valid JSON Schema at /type"),
        ('{"$ref": "#/x", "x": {"type": "rank"}}', "is not a schema, or not for these values"),
        ('{"allOf": [{"$ref": "file://host/x.json"}]}', "nothing from a network"),
        ('{"$id": "https://acme.example/p.json", "$ref": "bad.json"}', "starts from $id"),
        (
            '{"properties": {"init_r": {"$id": "urn:x:y", "$ref": "#/$defs/a"}}}',
            "cannot be resolved",
        ),
        ('{"$ref": "#"}', "refers to itself without end"),
        ('{"properties": {"init_r": {"$ref": "#/properties/init_r"}}}', "itself without end"),
    ],
)
def test_broken_policy_exits_2_and_names_the_fault(check, write, content, phrase):
    write('{"type": 3}', "bad.json")
    code, out, err = check(write(SOUND), "--policy", write(content, "policy.json"))
    assert (code, out) == (2, "")
    assert phrase in err
    assert err.count("\n") == 1


def test_policy_that_cannot_be_read_exits_2(check, write, tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        code, _, err = check(write(SOUND), "--policy", path)
        assert code == 2
        assert str(path) in err


def test_reference_to_an_address_is_never_fetched(check, write, monkeypatch):
    def connect(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    schema = {"properties": {"init_r": {"$ref": "https://example.org/r.json"}}}
    policy = write(schema, "policy.json")
    code, _, err = check(write(SOUND), "--policy", policy)
    assert code == 2
    assert "nothing from a network" in err


def test_reference_to_the_draft_itself_needs_no_network(refused):
    assert refused({"$ref": "http://json-schema.org/draft-07/schema#/definitions/stringArray"})


@pytest.mark.parametrize("draft", ["draft-04", "draft-06", "draft-07"])
def test_policy_in_an_older_draft_is_understood(refused, draft):
    policy = {
        "$schema": f"http://json-schema.org/{draft}/schema#",
        "definitions": {"rank": {"maximum": 8}},
        "properties": {"init_r": {"$ref": "#/definitions/rank"}},
    }
    assert [place for place, _, _ in refused(policy)] == ["/peft/init_r"]


def test_policy_with_an_address_of_its_own_refers_to_its_parts(refused):
    policy = {
        "$id": "https://acme.example/policy.json",
        "$defs": {"rank": {"$id": "rank.json", "maximum": 8}},
        "properties": {"init_r": {"$ref": "#/$defs/rank"}, "target_r": {"$ref": "rank.json"}},
    }
    places = [place for place, _, _ in refused(policy, target_r=9)]
    assert places == ["/peft/init_r", "/peft/target_r"]


def test_policy_refers_to_files_beside_it_in_any_format(refused, write):
    write("$defs:\n  pinned:\n    required: [revision]\n", "shared/b.yaml")
    write("[properties.init_r]\nmaximum = 8\n", "c.toml")
    policy = write(
        {"allOf": [{"$ref": "b.yaml#/$defs/pinned"}, {"$ref": "../c.toml"}]}, "shared/a.json"
    )
    assert [place for place, _, _ in refused(policy)] == ["/peft", "/peft/init_r"]


def test_policy_of_the_project_is_taken_from_beside_its_file(check, write, monkeypatch):
    Path("policies").mkdir()
    Path("policies/p.json").write_text('{"required": ["revision"]}')
    Path("pyproject.toml").write_text('[tool.adalora]\npolicy = "policies/p.json"\n')
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    assert check(write(SOUND))[0] == 1
    assert check(write(SOUND), "--isolated")[0] == 0


def test_broken_policy_in_python_raises():
    with pytest.raises(PolicyError, match="cannot be resolved"):
        check_config(SOUND, policy={"$ref": "other.json"})
    with pytest.raises(PolicyError, match="without end"):
        check_config(SOUND, policy={"$ref": "#"})


def test_policy_given_in_python_is_not_changed():
    policy = {"properties": {"r": False}}
    assert check_config(SOUND | {"r": 4}, policy=policy).errors[0].pointer == "/r"
    assert policy == {"properties": {"r": False}}


@pytest.mark.parametrize("name", ["gpu-budget.json", "reproducible.yaml", "production.yaml"])
def test_example_policy_lets_a_sound_configuration_pass_and_refuses_others(refused, name):
    policy = EXAMPLES / name
    assert refused(policy, **ALLOWED) == []
    assert refused(policy)
    wrong = {
        "gpu-budget.json": {"init_r": 64},
        "reproducible.yaml": {"revision": "main"},
        "production.yaml": {"inference_mode": True, "rank_pattern": None},
    }[name]
    ((place, message, _),) = refused(policy, **ALLOWED | wrong)
    assert place == f"/peft/{list(wrong)[-1]}"
    assert not message.startswith("the policy refuses this")


def test_page_of_the_examples_shows_what_is_printed(capsys):
    shutil.copytree(EXAMPLES, "examples/policies")
    assert run_sessions(EXAMPLES / "README.md", capsys) == 1
    listed = EXAMPLES.joinpath("README.md").read_text()
    assert all(f"({p.name})" in listed for p in EXAMPLES.iterdir() if p.name != "README.md")


def test_policy_does_not_miss_what_only_a_run_can_tell(check, write):
    policy = write({"required": ["revision", "lora_alpha"]}, "policy.json")
    call = "AdaLoraConfig(init_r=12, target_r=8, total_step=99, revision=read())"
    code, out, _ = check(
        write(call, "a.py"), "--policy", policy, "--select", "ADA010", "-o", "json"
    )
    assert code == 1
    ((finding,),) = (report["diagnostics"] for report in json.loads(out)["reports"])
    assert "`lora_alpha` is required" in finding["message"]


def test_code_is_not_a_policy(check, write):
    code, _, err = check(write(SOUND), "--policy", write("x = 1\n", "policy.py"))
    assert (code, "a policy is JSON, YAML or TOML" in err) == (2, True)
