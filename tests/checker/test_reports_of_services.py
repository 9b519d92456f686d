"""The format of GitLab, read by consumers that are not ours."""

from __future__ import annotations

import json
import subprocess

import npm_packages
import pytest
from contract_reports import gitlab_issues

from adalora_core.checker.check import check_config
from adalora_core.checker.reports import Outcome, Report, render
from adalora_core.config.findings import Diagnostic
from adalora_core.config.rules.base import SOUND

MIXED = SOUND | {"deltaT": 0, "delta_t": 0, "beta1": 2, "target_modules": None}
"""Two errors, a warning and a remark."""


def _gitlab(*reports):
    return gitlab_issues(render(Outcome(reports), "gitlab"))


def test_gitlab_issue_has_code_place_and_severity():
    text = json.dumps(MIXED, indent=1)
    issues = {issue["check_name"]: issue for issue in _gitlab(check_config(text))}
    issue = issues["ADA204 delta-t-not-positive"]
    row = text.splitlines().index(' "deltaT": 0,') + 1
    assert issue["location"]["lines"] == {"begin": row, "end": row}
    assert issue["location"]["positions"]["begin"] == {"line": row, "column": 12}
    assert issue["severity"] == "major"
    assert issues["ADA104 unknown-key"]["severity"] == "minor"
    assert issues["ADA414 targets-from-table"]["severity"] == "info"


def test_gitlab_report_without_findings_is_an_empty_list():
    assert _gitlab(check_config(SOUND)) == []


def test_gitlab_fingerprints_of_equal_findings_differ_and_stay_when_lines_move():
    text = json.dumps(MIXED)
    first = [i["fingerprint"] for i in _gitlab(check_config(text), check_config(text))]
    assert len(set(first)) == len(first) == 8
    moved = "\n\n" + json.dumps(MIXED, indent=2)
    again = [i["fingerprint"] for i in _gitlab(check_config(moved), check_config(moved))]
    assert first == again


def test_gitlab_path_is_relative_to_the_project_that_gitlab_names(tmp_path, monkeypatch):
    finding = Diagnostic("ADA001", "syntax-error", "error", "m", "")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")

    def path(source):
        return _gitlab(Report((finding,), source=source))[0]["location"]["path"]

    monkeypatch.delenv("CI_PROJECT_DIR", raising=False)
    assert path("./x.json") == path(str(tmp_path / "sub" / "x.json")) == "x.json"
    monkeypatch.setenv("CI_PROJECT_DIR", str(tmp_path))
    assert path("./x.json") == "sub/x.json"


@pytest.mark.slow
def test_gitlab_report_fits_the_published_types_of_code_climate(tmp_path, tmp_path_factory):
    modules = npm_packages.node_modules(
        tmp_path_factory.mktemp("npm"), "an issue is of Code Climate's type"
    )
    compiler = modules / ".bin" / "tsc"
    (tmp_path / "node_modules").symlink_to(modules.resolve())

    def complaints(report):
        source = tmp_path / "report.ts"
        source.write_text(
            'import type { Issue } from "codeclimate-types";\n'
            f"export const issues: Issue[] = {report};\n"
        )
        command = [compiler, "--noEmit", "--strict", "--skipLibCheck", source]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    report = render(Outcome((check_config(json.dumps(MIXED)), check_config(MIXED))), "gitlab")
    assert complaints(report) == ""
    assert "not assignable" in complaints(report.replace('"major"', '"bad"'))
