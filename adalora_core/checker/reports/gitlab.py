"""Write GitLab's Code Quality report, a subset of Code Climate's format."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora_core.checker.reports.text import NO_NAME, digest, fingerprint, in_cell, name_below
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.checker.reports import Notice, Outcome
    from adalora_core.config.findings import Diagnostic
    from adalora_core.floor.places import Span

NOT_CHECKED = "not checked"
_SEVERITIES = {"error": "major", "warning": "minor", "info": "info"}


def render(outcome: Outcome) -> str:
    """Write one issue per finding and failure in ASCII; an empty list if there is none.

    Paths are relative to the project's folder in `CI_PROJECT_DIR`, which GitLab sets, else to the
    working folder.
    """
    folder = Path(os.environ.get("CI_PROJECT_DIR") or Path.cwd()).absolute()
    seen: dict[str, int] = {}
    issues = [
        _issue(_path(folder, report.source), diagnostic, seen)
        for report in outcome.reports
        for diagnostic in report.diagnostics
    ]
    failures = [each for each in outcome.notices if each.fails]
    issues += [_failure(_path(folder, each.source), each, seen) for each in failures]
    return json.dumps(issues, indent=1) + "\n"


def _path(folder: Path, source: str | None) -> str:
    if source is None:
        return NO_NAME
    return visible(name_below(folder, source) or source, None)


def _issue(path: str, diagnostic: Diagnostic, seen: dict[str, int]) -> dict[str, Any]:
    text = in_cell(diagnostic.span) + visible(diagnostic.message)
    if diagnostic.hint:
        text += f". Hint: {visible(diagnostic.hint)}"
    return {
        "type": "issue",
        "check_name": f"{diagnostic.code} {diagnostic.name}",
        "description": text,
        "categories": ["Bug Risk"],
        "severity": _SEVERITIES[diagnostic.severity],
        # GitLab shows two findings with the same fingerprint as one.
        "fingerprint": fingerprint(path, diagnostic, seen),
        "location": {"path": path, **_extent(diagnostic.span)},
    }


def _failure(path: str, notice: Notice, seen: dict[str, int]) -> dict[str, Any]:
    """Return an issue for what could not be checked."""
    return {
        "type": "issue",
        "check_name": NOT_CHECKED,
        "description": visible(notice.message),
        "categories": ["Bug Risk"],
        "severity": "critical",
        "fingerprint": digest([path, NOT_CHECKED, notice.message], seen),
        "location": {"path": path, **_extent(None)},
    }


def _extent(span: Span | None) -> dict[str, Any]:
    if span is None:
        return {"lines": {"begin": 1, "end": 1}}
    return {
        "lines": {"begin": span.start_line, "end": span.end_line},
        "positions": {
            "begin": {"line": span.start_line, "column": span.start_column},
            "end": {"line": span.end_line, "column": span.end_column},
        },
    }
