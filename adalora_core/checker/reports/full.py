"""Write findings for people: in full, with an excerpt and a hint, or one line for each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adalora_core.checker.reports.summary import closing_lines, option_of, place
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adalora_core.checker.reports import Outcome
    from adalora_core.config.findings import Checked, Diagnostic
    from adalora_core.floor.places import Span

    _Paint = Callable[[str, str], str]

WIDEST = 100
"""Largest number of source columns in an excerpt."""

_COLOURS = {"error": "31;1", "warning": "33;1", "info": "36;1", "caret": "31"}


def render(outcome: Outcome) -> str:
    """Write every finding with an excerpt, then the summary."""
    paint = _colour if outcome.colour else lambda text, _: text
    lines: list[str] = []
    for report in outcome.reports:
        for diagnostic in report.diagnostics:
            lines += _diagnostic(report, diagnostic, paint)
            lines.append("")
    has_findings = bool(lines)
    lines += closing_lines(outcome, with_fixes=True)
    if has_findings and not outcome.is_quiet:
        lines.append("'adalora rule CODE' explains a finding")
    return "".join(f"{line}\n" for line in lines)


def render_concise(outcome: Outcome) -> str:
    """Write one line per finding, `file:line:column: error[ADA202] message`, and the summary."""
    lines = [
        # Once more as a whole: a file may be named by a colon.
        visible(f"{place(report, d.span)}: {d.severity}[{d.code}] {visible(d.message)}", None)
        for report in outcome.reports
        for d in report.diagnostics
    ]
    lines += closing_lines(outcome, with_fixes=True)
    return "".join(f"{line}\n" for line in lines)


def _colour(text: str, role: str) -> str:
    return f"\x1b[{_COLOURS[role]}m{text}\x1b[0m"


def _diagnostic(report: Checked, diagnostic: Diagnostic, paint: _Paint) -> Iterator[str]:
    head = paint(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity)
    yield f"{head} {visible(diagnostic.message)}"
    pointer = f" ({visible(diagnostic.pointer)})" if diagnostic.pointer else ""
    yield f"  --> {place(report, diagnostic.span)}{pointer}"
    if report.text is not None and diagnostic.span is not None:
        yield from _excerpt(report.text, diagnostic.span, paint)
    for related in diagnostic.related:
        yield f"  note: {visible(related.message)} ({place(report, related.span)})"
    fix = diagnostic.fix
    if diagnostic.hint:
        # The command can fix files only.
        options = f" [{option_of(fix)}]" if fix and not fix.obstacle and report.source else ""
        yield f"  hint: {visible(diagnostic.hint)}{options}"
    if fix and fix.obstacle:
        yield f"  not fixed: {visible(fix.obstacle)}"


def _excerpt(text: str, span: Span, paint: _Paint) -> Iterator[str]:
    start = span.start - span.start_column + 1
    before, length, number = span.start - start, span.end - span.start, str(span.start_line)
    if span.cell is not None:
        cell = span.cell
        text, start, before, number = cell.source, 0, cell.start_column - 1, str(cell.start_line)
        is_short = cell.end_line == cell.start_line
        length = (cell.end_column if is_short else len(text) + 1) - cell.start_column
    cut = max(0, before - WIDEST // 2)
    # A line may be as long as the file, so only the part that is shown is read.
    line = re.split(r"[\r\n]", text[start + cut : start + cut + WIDEST + 1], maxsplit=1)[0]
    shown = line[:WIDEST]
    marked = min(length, cut + len(shown) - before)
    # Escapes change widths, so the caret line is measured on the printed text.
    lead = visible(shown[: before - cut], None)
    under = visible(shown[before - cut : before - cut + max(marked, 1)], None)
    dots = "..." if cut else ""
    gutter = " " * len(number)
    yield f" {gutter} |"
    yield f" {number} | {dots}{visible(shown, None)}{'...' if len(line) > WIDEST else ''}"
    yield f" {gutter} | {' ' * len(dots + lead)}{paint('^' * max(len(under), 1), 'caret')}"
