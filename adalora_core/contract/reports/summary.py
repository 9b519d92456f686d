"""What several formats say alike: where a finding is, and how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.reports.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.contract.diagnostics import Report, Span

NO_NAME = "<config>"
"""Stands for the file's name where the source was a text or a mapping."""


def place(report: Report, span: Span | None) -> str:
    """Return `file:line:column`, without the numbers where there is no text."""
    name = visible(report.source or NO_NAME)
    return name if span is None else f"{name}:{span.start_line}:{span.start_column}"


def counts(reports: Sequence[Report]) -> dict[str, int]:
    """Return how many findings of each severity there are."""
    found = {"error": 0, "warning": 0, "info": 0}
    for report in reports:
        for diagnostic in report.diagnostics:
            found[diagnostic.severity] += 1
    return found


def summary(reports: Sequence[Report]) -> str:
    """Return the last line: `checked 2 files: 1 error, 0 warnings`."""
    found = counts(reports)
    words = [_plural(found["error"], "error"), _plural(found["warning"], "warning")]
    if found["info"]:
        words.append(f"{found['info']} info")
    return f"checked {_plural(len(reports), 'configuration')}: {', '.join(words)}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
