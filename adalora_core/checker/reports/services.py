"""Write findings for services: SARIF 2.1.0 for code scanning, and what GitHub and GitLab read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from adalora_core.checker.reports import Notice, Outcome
from adalora_core.checker.reports.text import (
    NO_NAME,
    closing_lines,
    digest,
    fingerprint,
    in_cell,
    name_below,
    with_hint,
)
from adalora_core.checker.rules import BY_CODE, page
from adalora_core.config.findings import SEVERITIES, Checked, Diagnostic, Fix, Severity
from adalora_core.floor.escaping import visible
from adalora_core.floor.places import Span

MOST = 10
"""Number of annotations of one kind that GitHub shows for a step; it drops the rest silently."""

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}  # of GitHub
_SEVERITIES = {"error": "major", "warning": "minor", "info": "info"}  # of GitLab
NOT_CHECKED = "not checked"


def render_github(outcome: Outcome) -> str:
    """Write GitHub's annotations, the worst first, and how many are left out."""
    lines, left = [], 0
    for severity in SEVERITIES:
        found = [_notice(each) for each in outcome.notices if each.severity == severity]
        found += [_annotation(r, d) for r, d in outcome.findings if d.severity == severity]
        # The last notice is reserved for the count.
        room = MOST - 1 if severity == "info" else MOST
        lines += found[:room]
        left += len(found[room:])
    if left:
        more = f"{left} more findings are not shown here; run adalora check to see all"
        lines.append(_command("info", {"title": "adalora check"}, more))
    return "".join(f"{line}\n" for line in [*lines, *closing_lines(outcome)])


def _notice(notice: Notice) -> str:
    properties = {"file": notice.source} if notice.source else {}
    return _command(notice.severity, properties | {"title": "adalora check"}, notice.message)


def _command(severity: Severity, properties: dict[str, str], text: str) -> str:
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{_COMMANDS[severity]} {listed}::{_data(text)}"


def _annotation(report: Checked, diagnostic: Diagnostic) -> str:
    properties = {"file": report.source or NO_NAME}
    span = diagnostic.span
    if span is not None:
        properties["line"] = str(span.start_line)
        # GitHub ignores the columns of an annotation over several lines.
        if span.end_line == span.start_line:
            properties["col"] = str(span.start_column)
            properties["endColumn"] = str(max(span.end_column, span.start_column))
        else:
            properties["endLine"] = str(span.end_line)
    properties["title"] = f"{diagnostic.code} {diagnostic.name}"
    text = in_cell(span) + diagnostic.message
    if diagnostic.hint:
        text += f" (hint: {diagnostic.hint})"
    return _command(diagnostic.severity, properties, text)


def _data(text: str) -> str:
    return visible(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def render_gitlab(outcome: Outcome) -> str:
    """Write GitLab's Code Quality report in ASCII: one issue per finding and failure, or none.

    Paths are relative to the project's folder in `CI_PROJECT_DIR`, which GitLab sets, else to the
    working folder.
    """
    folder = Path(os.environ.get("CI_PROJECT_DIR") or Path.cwd()).absolute()
    seen: dict[str, int] = {}
    issues = []
    for report, each in outcome.findings:
        path, text = _path(folder, report.source), in_cell(each.span) + with_hint(each)
        name, severity = f"{each.code} {each.name}", _SEVERITIES[each.severity]
        # GitLab shows two findings with the same fingerprint as one.
        mark = fingerprint(path, each, seen)
        issues.append(_issue(name, text, severity, mark, path, each.span))
    for failure in outcome.failures:
        path = _path(folder, failure.source)
        mark = digest([path, NOT_CHECKED, failure.message], seen)
        text = visible(failure.message)
        issues.append(_issue(NOT_CHECKED, text, "critical", mark, path, None))
    return json.dumps(issues, indent=1) + "\n"


def _path(folder: Path, source: str | None) -> str:
    if source is None:
        return NO_NAME
    return visible(name_below(folder, source) or source, None)


def _issue(
    name: str, text: str, severity: str, fingerprint: str, path: str, span: Span | None
) -> dict[str, Any]:
    return {
        "type": "issue",
        "check_name": name,
        "description": text,
        "categories": ["Bug Risk"],
        "severity": severity,
        "fingerprint": fingerprint,
        "location": {"path": path, **_extent(span)},
    }


def _extent(span: Span | None) -> dict[str, Any]:
    if span is None:
        return {"lines": {"begin": 1, "end": 1}}
    begin = {"line": span.start_line, "column": span.start_column}
    end = {"line": span.end_line, "column": span.end_column}
    lines = {"begin": span.start_line, "end": span.end_line}
    return {"lines": lines, "positions": {"begin": begin, "end": end}}


SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render_sarif(outcome: Outcome) -> str:
    """Write one run with all findings, and the rules that they break, in ASCII."""
    seen: dict[str, int] = {}
    codes = sorted({each.code for _, each in outcome.findings})
    invocation = {
        "executionSuccessful": not outcome.failures,
        "toolExecutionNotifications": [_notification(each) for each in outcome.notices],
    }
    run = {
        "tool": {"driver": _driver(codes)},
        "invocations": [invocation],
        "columnKind": "unicodeCodePoints",  # the default would be UTF-16 units
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "working folder"}}},
        "results": [_result(report, each, codes, seen) for report, each in outcome.findings],
    }
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(log, indent=1) + "\n"


def _notification(notice: Notice) -> dict[str, Any]:
    found: dict[str, Any] = {
        "level": _LEVELS[notice.severity],
        "message": {"text": visible(notice.message)},
    }
    if notice.source is not None:
        place = {"physicalLocation": {"artifactLocation": _artifact(notice.source)}}
        found["locations"] = [place]
    return found


def _driver(codes: Sequence[str]) -> dict[str, Any]:
    return {
        "name": "adalora check",
        "version": version("adalora-core"),
        "rules": [
            {
                "id": rule.code,
                "name": "".join(part.title() for part in rule.name.split("-")),
                "shortDescription": {"text": rule.summary},
                "fullDescription": {"text": rule.why},
                # The page instead of its address, so that it matches the version that checked.
                "help": {"text": page(rule)},
                "defaultConfiguration": {"level": _LEVELS[rule.severity]},
            }
            for rule in map(BY_CODE.__getitem__, codes)
        ],
    }


def _result(
    report: Checked, diagnostic: Diagnostic, codes: Sequence[str], seen: dict[str, int]
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "ruleIndex": codes.index(diagnostic.code),
        "level": _LEVELS[diagnostic.severity],
        "message": {"text": with_hint(diagnostic)},
        "locations": [_location(report, diagnostic.span)],
        "partialFingerprints": {
            "adalora/v1": fingerprint(_artifact(report.source)["uri"], diagnostic, seen)
        },
    }
    if diagnostic.related:
        result["relatedLocations"] = [
            {**_location(report, related.span), "message": {"text": visible(related.message)}}
            for related in diagnostic.related
        ]
    if diagnostic.fix is not None and report.text is not None:
        result["fixes"] = [_fix(report, diagnostic.fix)]
    return result


def _fix(report: Checked, fix: Fix) -> dict[str, Any]:
    replacements = [
        {"deletedRegion": _region(e.span), "insertedContent": {"text": visible(e.replacement)}}
        for e in fix.edits
    ]
    change = {"artifactLocation": _artifact(report.source), "replacements": replacements}
    return {"description": {"text": visible(fix.description)}, "artifactChanges": [change]}


def _location(report: Checked, span: Span | None) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": _artifact(report.source)}
    if span is not None:
        physical["region"] = _region(span)
    location: dict[str, Any] = {"physicalLocation": physical}
    if span is not None and span.cell is not None:
        cell = span.cell
        place = {"cell": cell.number, "line": cell.start_line, "column": cell.start_column}
        location["properties"] = place
    return location


def _region(span: Span) -> dict[str, int]:
    start = {"startLine": span.start_line, "startColumn": span.start_column}
    return {**start, "endLine": span.end_line, "endColumn": span.end_column}


def _artifact(source: str | None) -> dict[str, Any]:
    """Return a file's location: relative to the working folder if inside, else absolute."""
    name = source or NO_NAME
    relative = name_below(Path.cwd(), name)
    if relative is not None:
        return {"uri": _quoted(relative), "uriBaseId": "%SRCROOT%"}
    return {"uri": "file://" + _quoted(Path(name).absolute().as_posix())}


def _quoted(name: str) -> str:
    try:
        # As bytes, so that a file name that is not UTF-8 has an address too.
        return quote_from_bytes(os.fsencode(name))
    except UnicodeEncodeError:
        return quote_from_bytes(name.encode("utf-8", "surrogatepass"))
