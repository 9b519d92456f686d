"""Write logging commands of Azure Pipelines: issues at the lines of the findings.

The commands and their escapes are those of the agent:
https://learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands and
docs/design/percentEncoding.md in microsoft/azure-pipelines-agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.reports.escaping import visible
from adalora_core.contract.reports.summary import NO_NAME, closing_lines, in_cell, place

if TYPE_CHECKING:
    from adalora_core.contract.findings import Checked, Diagnostic
    from adalora_core.contract.reports import Notice, Outcome


def render(outcome: Outcome) -> str:
    """Write one line per notice and finding, and the summary."""
    lines = [_notice(notice) for notice in outcome.notices]
    lines += [
        _line(report, diagnostic) for report in outcome.reports for diagnostic in report.diagnostics
    ]
    return "".join(f"{line}\n" for line in [*lines, *closing_lines(outcome)])


def _notice(notice: Notice) -> str:
    place_ = f"sourcepath={_property(notice.source)};" if notice.source else ""
    return f"##vso[task.logissue type={notice.severity};{place_}]{_data(notice.message)}"


def _line(report: Checked, diagnostic: Diagnostic) -> str:
    text = f"{diagnostic.name}: {diagnostic.message}"
    if diagnostic.hint:
        text += f" (hint: {diagnostic.hint})"
    if diagnostic.severity == "info":  # an issue is an error or a warning
        return f"{place(report, diagnostic.span)}: info[{diagnostic.code}] {visible(text)}"
    properties = {"type": diagnostic.severity, "sourcepath": report.source or NO_NAME}
    span = diagnostic.span
    if span is not None:
        properties["linenumber"] = str(span.start_line)
        properties["columnnumber"] = str(span.start_column)
    properties["code"] = diagnostic.code
    listed = "".join(f"{name}={_property(value)};" for name, value in properties.items())
    return f"##vso[task.logissue {listed}]{_data(in_cell(span) + text)}"


def _data(text: str) -> str:
    return visible(text).replace("%", "%AZP25")


def _property(text: str) -> str:
    return _data(text).replace(";", "%3B").replace("]", "%5D")
