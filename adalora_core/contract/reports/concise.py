"""Write one line per finding: `file:line:column: error[ADA202] message`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.reports.escaping import visible
from adalora_core.contract.reports.summary import closing_lines, place

if TYPE_CHECKING:
    from adalora_core.contract.reports import Outcome


def render(outcome: Outcome) -> str:
    """Write one line per finding and the summary."""
    lines = [
        f"{place(report, d.span)}: {d.severity}[{d.code}] {visible(d.message)}"
        for report in outcome.reports
        for d in report.diagnostics
    ]
    lines += closing_lines(outcome, with_fixes=True)
    return "".join(f"{line}\n" for line in lines)
