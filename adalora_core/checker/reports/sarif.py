"""Write SARIF 2.1.0 for code scanning services, without a library."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

from adalora_core.checker.reports.text import NO_NAME, fingerprint, name_below, with_hint
from adalora_core.checker.rules import BY_CODE
from adalora_core.checker.rules.pages import page
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.checker.reports import Notice, Outcome
    from adalora_core.config.findings import Checked, Diagnostic, Fix
    from adalora_core.floor.places import Span

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(outcome: Outcome) -> str:
    """Write one run with all findings, and the rules that they break, in ASCII."""
    seen: dict[str, int] = {}
    codes = sorted({each.code for _, each in outcome.findings})
    invocation = {
        "executionSuccessful": not outcome.failures,
        "toolExecutionNotifications": [_notice(each) for each in outcome.notices],
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


def _notice(notice: Notice) -> dict[str, Any]:
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
