"""Consumers of the output formats that are not ours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema

ROOT = Path(__file__).parents[2]
SARIF = jsonschema.Draft4Validator(
    json.loads((ROOT / "tests" / "contract" / "data" / "sarif-schema-2.1.0.json").read_text())
)


def _closed(schema):
    """Return a schema whose objects have no other keys than those that it describes."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _closed(each) for name, each in schema.items()}
    return inner | ({"additionalProperties": False} if "required" in inner else {})


REPORT = jsonschema.Draft202012Validator(
    _closed(json.loads((ROOT / "schemas" / "adalora-report.schema.json").read_text()))
)
"""The published schema, which is written by hand: later versions may add keys, ours has none."""


def github_commands(text):
    """Read workflow commands as the runner does, and refuse everything else in the text."""
    *lines, summary = text.split("\n")[:-1]
    assert not summary.startswith("::")
    for line in lines:
        match = re.fullmatch(r"::(error|warning|notice)(?: ([^:]*))?::(.*)", line)
        assert match, line
        properties = {}
        for pair in (match[2] or "").split(","):
            name, _, value = pair.partition("=")
            assert name in {"file", "line", "endLine", "col", "endColumn", "title"}
            properties[name] = _unescaped(value, {"%3A": ":", "%2C": ","})
        yield match[1], properties, _unescaped(match[3], {})


def _unescaped(text, more):
    table = {"%25": "%", "%0D": "\r", "%0A": "\n", **more}
    assert all(code in table for code in re.findall(r"%..?", text))
    return re.sub(r"%..", lambda match: table[match[0]], text)


def gitlab_issues(text):
    """Read a Code Quality report, and refuse what GitLab's documentation does not allow."""
    issues = json.loads(text)
    for issue in issues:
        for name in ("description", "check_name", "fingerprint"):
            assert isinstance(issue[name], str)
            assert issue[name]
        assert "\n" not in issue["description"]
        assert issue["severity"] in {"info", "minor", "major", "critical", "blocker"}
        assert not issue["location"]["path"].startswith("./")
        assert issue["location"]["lines"]["begin"] >= 1
    # GitLab drops all but one of the issues with the same fingerprint.
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)
    return issues


def parse(text, format_):
    """Read a report with a consumer that is not ours; raise if it refuses it."""
    if format_ == "json":
        REPORT.validate(json.loads(text))
    elif format_ == "sarif":
        SARIF.validate(json.loads(text))
    elif format_ == "github":
        list(github_commands(text))
    elif format_ == "gitlab":
        gitlab_issues(text)
    else:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
