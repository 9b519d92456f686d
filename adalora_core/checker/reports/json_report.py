"""Write findings for programs: one JSON object, see `schemas/adalora-report.schema.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adalora_core.checker.reports.summary import counts

if TYPE_CHECKING:
    from adalora_core.checker.reports import Outcome
    from adalora_core.config.findings import Diagnostic, Fix
    from adalora_core.floor.places import Span

SCHEMA_VERSION = 1
"""Increased when a key changes its meaning or is removed, but not when a key is added."""


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
                "fixed": [_fixed(d, d.fix) for d in report.fixed if d.fix is not None],
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


def _fixed(diagnostic: Diagnostic, fix: Fix) -> dict[str, Any]:
    """Return a fixed finding without positions, which refer to the old text."""
    return {
        **_named(diagnostic),
        "description": fix.description,
        "safe": fix.is_safe,
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
