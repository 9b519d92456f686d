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
    issues = [_finding(_path(folder, r.source), d, seen) for r, d in outcome.findings]
    issues += [_failure(_path(folder, each.source), each, seen) for each in outcome.failures]
    return json.dumps(issues, indent=1) + "\n"


def _path(folder: Path, source: str | None) -> str:
    if source is None:
        return NO_NAME
    return visible(name_below(folder, source) or source, None)


def _finding(path: str, diagnostic: Diagnostic, seen: dict[str, int]) -> dict[str, Any]:
    text = in_cell(diagnostic.span) + visible(diagnostic.message)
    if diagnostic.hint:
        text += f". Hint: {visible(diagnostic.hint)}"
    name, severity = f"{diagnostic.code} {diagnostic.name}", _SEVERITIES[diagnostic.severity]
    # GitLab shows two findings with the same fingerprint as one.
    mark = fingerprint(path, diagnostic, seen)
    return _issue(name, text, severity, mark, path, diagnostic.span)


def _failure(path: str, notice: Notice, seen: dict[str, int]) -> dict[str, Any]:
    """Return an issue for what could not be checked."""
    mark = digest([path, NOT_CHECKED, notice.message], seen)
    return _issue(NOT_CHECKED, visible(notice.message), "critical", mark, path, None)


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
    return {
        "lines": {"begin": span.start_line, "end": span.end_line},
        "positions": {
            "begin": {"line": span.start_line, "column": span.start_column},
            "end": {"line": span.end_line, "column": span.end_column},
        },
    }
