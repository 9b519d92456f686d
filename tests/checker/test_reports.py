"""Every output format, read back by independent readers."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from contract_reports import github_commands, parse

from adalora_core.checker.check import check_config
from adalora_core.checker.reports import (
    FORMATS,
    Outcome,
    Report,
    render,
)
from adalora_core.checker.rules import BY_CODE, page
from adalora_core.config.findings import Diagnostic, Related
from adalora_core.config.rules.base import SOUND
from adalora_core.floor.places import Span

ROOT = Path(__file__).parents[2]
HOSTILE = "x\n::error::pwn\r\x1b[2J]]>%0A,:\u202e\u2028\ud800\0"


def _hostile_report():
    span = Span(0, 5, 1, 1, 1, 6)
    diagnostic = Diagnostic(
        "ADA104", "unknown-key", "warning", f"key {HOSTILE}", f"/{HOSTILE}", span,
        hint=HOSTILE, related=(Related(HOSTILE, f"/{HOSTILE}", span),),
    )  # fmt: skip
    return Report((diagnostic,), source=f"dir/{HOSTILE}.json", text=HOSTILE * 30)


@pytest.mark.parametrize("format_", FORMATS)
def test_hostile_text_written_in_each_format_is_read_back(format_):
    text = render(Outcome((_hostile_report(),)), format_)
    parse(text, format_)
    assert "\x1b" not in text
    assert not any(line.startswith("::error::pwn") for line in text.splitlines())


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("source", [SOUND, SOUND | {"deltaT": 0, "r": 4, "tinit": 990}, "{", []])
def test_ordinary_report_written_in_each_format_is_read_back(format_, source):
    source = source if isinstance(source, str) else json.dumps(source)
    parse(render(Outcome((check_config(source),), skipped=2), format_), format_)


def test_mapping_without_text_written_in_each_format_is_read_back():
    for format_ in FORMATS:
        parse(check_config({"beta1": 2}).render(format_), format_)


def test_report_with_a_key_beside_those_of_the_schema_is_refused():
    report = json.loads(check_config({"beta1": 2}).render("json"))
    report["reports"][0]["diagnostics"][0]["url"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="'url' was unexpected"):
        parse(json.dumps(report), "json")


def test_unknown_format_raises():
    with pytest.raises(ValueError, match="expected one of full, concise"):
        check_config("{}").render("xml")


def test_colour_is_written_only_when_asked_for():
    report = check_config(json.dumps(SOUND | {"deltaT": 0}))
    assert "\x1b[31;1merror[ADA204]\x1b[0m" in render(Outcome((report,), colour=True), "full")
    assert "\x1b" not in render(Outcome((report,)), "full")


def test_excerpt_of_a_long_line_is_cut_and_the_caret_still_points():
    text = json.dumps(SOUND | {"note": "x" * 3000, "deltaT": 0, "other": "y" * 3000})
    lines = check_config(text).render("full").splitlines()
    at = next(i for i, line in enumerate(lines) if '"deltaT": 0' in line)
    assert len(lines[at]) < 130
    assert lines[at][lines[at + 1].index("^")] == "0"


def test_concise_line_has_place_severity_code_and_message():
    text = json.dumps(SOUND | {"deltaT": 0}, indent=1)
    line, last = check_config(text).render("concise").splitlines()
    row = text.splitlines().index(' "deltaT": 0,') + 1
    assert line == f"<config>:{row}:12: error[ADA204] `deltaT` should be at least 1, got 0"
    assert last == "checked 1 configuration: 1 error, 0 warnings"


def test_github_annotations_over_the_limit_are_counted_and_errors_come_first():
    report = check_config(SOUND | {f"k{i}": 0 for i in range(14)} | {"deltaT": 0})
    commands = list(github_commands(render(Outcome((report,)), "github")))
    assert [kind for kind, _, _ in commands] == ["error"] + ["warning"] * 10 + ["notice"]
    assert commands[-1][2].startswith("4 more findings")


def test_sarif_explains_the_rules_that_spoke_and_keeps_fingerprints_apart():
    report = check_config(json.dumps(SOUND | {"a": 0, "b": 0, "deltaT": 0}))
    (run,) = json.loads(render(Outcome((report, report)), "sarif"))["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["ADA104", "ADA204"]
    assert [rule["help"] for rule in rules] == [
        {"text": page(BY_CODE[rule["id"]])} for rule in rules
    ]
    prints = [result["partialFingerprints"]["adalora/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints) == 6
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_sarif_fingerprint_stays_when_lines_move():
    def fingerprint(text):
        (result,) = json.loads(check_config(text).render("sarif"))["runs"][0]["results"]
        return result["partialFingerprints"]

    config = SOUND | {"deltaT": 0}
    assert fingerprint(json.dumps(config)) == fingerprint("\n\n" + json.dumps(config, indent=3))


def test_sarif_address_is_relative_inside_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b").mkdir()
    for name, uri in (("a b/ü.json", "a%20b/%C3%BC.json"), (str(tmp_path / "x.json"), "x.json")):
        report = Report((Diagnostic("ADA001", "n", "error", "m", ""),), source=name)
        log = json.loads(render(Outcome((report,)), "sarif"))
        location = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
        assert location["artifactLocation"] == {"uri": uri, "uriBaseId": "%SRCROOT%"}


@pytest.mark.parametrize("format_", ["full", "concise", "github"])
def test_quiet_report_holds_the_findings_only(format_):
    def shown(report):
        return render(Outcome((report,), skipped=3, is_quiet=True, settings_file="x"), format_)

    assert shown(check_config(json.dumps(SOUND))) == ""
    text = shown(check_config(json.dumps(SOUND | {"deltaT": 0})))
    assert "deltaT" in text
    assert not any(word in text for word in ("checked", "explains", "fixable", "settings of"))
