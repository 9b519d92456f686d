"""What several formats say alike: where a finding is, and how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.reports.escaping import visible

if TYPE_CHECKING:
    from adalora_core.contract.diagnostics import Report, Span
    from adalora_core.contract.reports import Outcome

NO_NAME = "<config>"
"""Stands for the file's name where the source was a text or a mapping."""


def place(report: Report, span: Span | None) -> str:
    """Return `file:line:column`, without the numbers where there is no text."""
    name = visible(report.source or NO_NAME)
    return name if span is None else f"{name}:{span.start_line}:{span.start_column}"


def counts(outcome: Outcome) -> dict[str, int]:
    """Return how many findings of each severity there are."""
    found = {"error": 0, "warning": 0, "info": 0}
    for report in outcome.reports:
        for diagnostic in report.diagnostics:
            found[diagnostic.severity] += 1
    return found


def summary(outcome: Outcome) -> str:
    """Return the last line: `checked 2 files: 1 error, 0 warnings`."""
    found = counts(outcome)
    words = [_plural(found["error"], "error"), _plural(found["warning"], "warning")]
    if found["info"]:
        words.append(f"{found['info']} info")
    line = f"checked {_plural(len(outcome.reports), 'configuration')}: {', '.join(words)}"
    if outcome.skipped:
        line += f"; skipped {_plural(outcome.skipped, 'file')} without AdaLoRA"
    return line


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
