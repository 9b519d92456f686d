"""Write workflow commands of GitHub Actions: annotations at the lines of the findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.checker.reports.text import NO_NAME, closing_lines, in_cell
from adalora_core.config.findings import SEVERITIES
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.checker.reports import Notice, Outcome
    from adalora_core.config.findings import Checked, Diagnostic, Severity

MOST = 10
"""Number of annotations of one kind that GitHub shows for a step; it drops the rest silently."""

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def render(outcome: Outcome) -> str:
    """Write one command per notice and finding, worst first, and how many are left out."""
    lines, left = [], 0
    for severity in SEVERITIES:
        found = [_notice(each) for each in outcome.notices if each.severity == severity]
        found += [_finding(r, d) for r, d in outcome.findings if d.severity == severity]
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


def _finding(report: Checked, diagnostic: Diagnostic) -> str:
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
