"""Write findings for programs: one JSON object, and its schema.

The schema is published as `schemas/adalora-report.schema.json`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adalora_core.checker.reports import Outcome
from adalora_core.checker.reports.text import counts
from adalora_core.config.findings import SEVERITIES, Diagnostic, Fix
from adalora_core.config.schemas.config import schema_id

if TYPE_CHECKING:
    from adalora_core.floor.places import Span

SCHEMA_VERSION = 1
"""Increased when a key changes its meaning or is removed, but not when a key is added."""
SCHEMA_FILE = "adalora-report.schema.json"
_POSITION = {"offset": 0, "line": 1, "column": 1}


def render(outcome: Outcome) -> str:
    """Write an outcome as one JSON object in ASCII."""
    return json.dumps(to_json(outcome), indent=2) + "\n"


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON values."""
    found = counts(outcome)
    return {
        "schema_version": SCHEMA_VERSION,
        "summary": {
            "configurations": len(outcome.reports),
            "errors": found["error"],
            "warnings": found["warning"],
            "infos": found["info"],
            "skipped": outcome.skipped,
            "too_large": outcome.too_large,
            "left_out": sum(outcome.left_out.values()),
            "unjudged": sum(report.unjudged for report in outcome.reports),
            "suppressed": sum(len(report.suppressed) for report in outcome.reports),
        },
        "settings": {"file": outcome.settings_file, "values": dict(outcome.settings)},
        "notices": [
            {"source": each.source, "message": each.message, "fails": each.fails}
            for each in outcome.notices
        ],
        "reports": [
            {
                "source": report.source,
                "runtime": report.runtime,
                "ok": report.ok,
                "diagnostics": [diagnostic_to_json(d) for d in report.diagnostics],
                "suppressed": [diagnostic_to_json(d) for d in report.suppressed],
                # Without positions, which refer to the old text.
                "fixed": [
                    {**_named(d), "description": d.fix.description, "safe": d.fix.is_safe}
                    for d in report.fixed
                    if d.fix is not None
                ],
            }
            for report in outcome.reports
        ],
    }


def diagnostic_to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """Return one finding as JSON values."""
    return {
        **_named(diagnostic),
        "span": _span(diagnostic.span),
        "hint": diagnostic.hint,
        "related": [
            {"message": r.message, "pointer": r.pointer, "span": _span(r.span)}
            for r in diagnostic.related
        ],
        "fix": _fix(diagnostic.fix),
    }


def _named(diagnostic: Diagnostic) -> dict[str, str]:
    names = ("code", "name", "severity", "message", "pointer")
    return {name: getattr(diagnostic, name) for name in names}


def _fix(fix: Fix | None) -> dict[str, Any] | None:
    if fix is None:
        return None
    return {
        "description": fix.description,
        "safe": fix.is_safe,
        "edits": [{"span": _span(e.span), "replacement": e.replacement} for e in fix.edits],
        "obstacle": fix.obstacle,
    }


def _span(span: Span | None) -> dict[str, Any] | None:
    if span is None:
        return None
    found: dict[str, Any] = {
        "start": {"offset": span.start, "line": span.start_line, "column": span.start_column},
        "end": {"offset": span.end, "line": span.end_line, "column": span.end_column},
    }
    if span.cell is not None:
        cell = span.cell
        found["cell"] = {
            "number": cell.number,
            "start": {"line": cell.start_line, "column": cell.start_column},
            "end": {"line": cell.end_line, "column": cell.end_column},
        }
    return found


def report_schema() -> dict[str, Any]:
    """Return the schema of `--output-format json`."""
    integers = {name: {"type": "integer", "minimum": least} for name, least in _POSITION.items()}
    position = _object(integers)
    text = {"type": "string"}
    text_or_null = {"type": ["string", "null"]}
    here = _object({name: integers[name] for name in ("line", "column")})
    cell = _object({"number": {"type": "integer", "minimum": 1}, "start": here, "end": here})
    stretch = _object({"start": position, "end": position})
    # Only a place in a notebook has a cell.
    stretch["properties"]["cell"] = {**cell, "description": "The place in a notebook's cell."}
    span = {"anyOf": [stretch, {"type": "null"}]}
    finding = {
        "code": {"type": "string", "pattern": "^ADA[0-9]{3}$"},
        "name": text,
        "severity": {"enum": list(SEVERITIES)},
        "message": text,
        "pointer": {"type": "string", "description": "JSON pointer (RFC 6901)"},
    }
    remedy = {"description": text, "safe": {"type": "boolean"}}
    edits = _list(_object({"span": span, "replacement": text}))
    fix = _object({**remedy, "edits": edits, "obstacle": text_or_null})
    diagnostic = {
        **finding,
        "span": span,
        "hint": text_or_null,
        "related": _list(_object({"message": text, "pointer": text, "span": span})),
        "fix": {"anyOf": [fix, {"type": "null"}]},
    }
    notice = {"source": text_or_null, "message": text, "fails": {"type": "boolean"}}
    report = {
        "source": text_or_null,
        "runtime": text,
        "ok": {"type": "boolean"},
        "diagnostics": _list({"$ref": "#/$defs/diagnostic"}),
        "suppressed": _list({"$ref": "#/$defs/diagnostic"}),
        "fixed": _list(_object({**finding, **remedy})),
    }
    count = {"type": "integer", "minimum": 0}
    outcome = {
        "schema_version": {"const": SCHEMA_VERSION},
        "summary": _object(dict.fromkeys(to_json(Outcome(()))["summary"], count)),
        "settings": _object({"file": text_or_null, "values": {"type": "object"}}),
        "notices": _list(_object(notice), description="What could not be read, and the like."),
        "reports": _list(_object(report)),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": schema_id("adalora-report", f"{SCHEMA_VERSION}.0", SCHEMA_FILE),
        "title": "Report of adalora check",
        **_object(outcome),
        "$defs": {"diagnostic": _object(diagnostic)},
    }


def _list(items: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"type": "array", **more, "items": items}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with all of these keys; later versions may add keys."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def report_schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(report_schema(), indent=2) + "\n"
