"""Write what several formats share: the place of a finding and the summary."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adalora_core.checker.reports import Outcome
    from adalora_core.config.findings import Checked, Fix
    from adalora_core.floor.places import Span

NO_NAME = "<config>"
"""The name of a source that is not a file."""
LONGEST_SETTING, LONGEST_HIDING_SETTING = 100, 2000
"""Largest number of characters of one setting that are shown."""
_HIDING = frozenset({"exclude", "ignore", "per-file-ignores", "select"})
"""The settings that hide findings; they are shown in whole entries."""


def place(report: Checked, span: Span | None) -> str:
    """Return `file:line:column`, in a notebook `file:cell 3:line:column`; or the file alone."""
    name = visible(report.source or NO_NAME)
    if span is None:
        return name
    if span.cell is None:
        return f"{name}:{span.start_line}:{span.start_column}"
    return f"{name}:cell {span.cell.number}:{span.cell.start_line}:{span.cell.start_column}"


def in_cell(span: Span | None) -> str:
    """Return `cell 3, line 2: ` for a place in a notebook, for formats without room for it."""
    if span is None or span.cell is None:
        return ""
    return f"cell {span.cell.number}, line {span.cell.start_line}: "


def counts(outcome: Outcome) -> dict[str, int]:
    """Return how many findings of each severity there are."""
    found = {"error": 0, "warning": 0, "info": 0}
    for report in outcome.reports:
        for diagnostic in report.diagnostics:
            found[diagnostic.severity] += 1
    return found


def summary(outcome: Outcome) -> str:
    """Return the last line: `checked 2 configurations: 1 error, 0 warnings`."""
    found = counts(outcome)
    words = [_plural(found["error"], "error"), _plural(found["warning"], "warning")]
    if found["info"]:
        words.append(f"{found['info']} info")
    line = f"checked {_plural(len(outcome.reports), 'configuration')}: {', '.join(words)}"
    unjudged = sum(report.unjudged for report in outcome.reports)
    if unjudged:
        line += f"; the values of {_plural(unjudged, 'configuration')} are known at run time only"
    suppressed = Counter(d.code for report in outcome.reports for d in report.suppressed)
    if suppressed:
        number = _plural(suppressed.total(), "finding")
        line += f"; suppressed {number}: {_by_code(suppressed)}"
    if outcome.skipped:
        line += f"; skipped {_plural(outcome.skipped, 'file')} without AdaLoRA"
    if outcome.too_large:
        line += f"; left out {_plural(outcome.too_large, 'file')} too large to look into"
    if outcome.left_out:
        line += f"; {left_out_phrase(outcome.left_out)}"
    if lacking := sum(report.lacks_total for report in outcome.reports):
        # No findings are otherwise read as a schedule that fits.
        line += f"; total_step could not be read in {lacking}: no schedule is judged there"
    return line


def closing_lines(outcome: Outcome, *, with_fixes: bool = False) -> list[str]:
    """Return the lines behind the findings: summary, fixes, settings; none if quiet."""
    if outcome.is_quiet:
        return []
    fixes = fixing_lines(outcome) if with_fixes else []
    return [summary(outcome), *fixes, *settings_lines(outcome)]


def left_out_phrase(left_out: Mapping[str, int]) -> str:
    """Return how many files and folders a search left out, and why; empty if there are none."""
    shown = ", ".join(f"{number} {what}" for what, number in sorted(left_out.items()))
    return f"left out {shown}" if shown else ""


def settings_lines(outcome: Outcome) -> list[str]:
    """Return one line on the project's settings, if there are any: a change may weaken them."""
    if outcome.settings_file is None:
        return []
    shown = [
        f"{visible(key)} = {_setting(key, value)}"
        for key, value in sorted(outcome.settings.items())
    ]
    return [f"settings of {visible(outcome.settings_file)}: {', '.join(shown)}"]


def _setting(key: str, value: Any) -> str:
    """Return a setting as text, and how many of its entries it leaves out."""
    if key not in _HIDING or not isinstance(value, (list, dict)):
        return visible(json.dumps(value), LONGEST_SETTING)
    is_list = isinstance(value, list)
    room = LONGEST_HIDING_SETTING
    shown: list[str] = []
    for entry in value:
        text = json.dumps(entry) if is_list else f"{json.dumps(entry)}: {json.dumps(value[entry])}"
        room -= len(text)
        if room < 0:
            if not shown:
                shown.append(visible(f"{text[:LONGEST_SETTING]}...{text[-LONGEST_SETTING:]}"))
            break
        shown.append(visible(text, None))
    brackets = "[]" if is_list else "{}"
    left = len(value) - len(shown)
    more = f" and {left} more" if left else ""
    return f"{brackets[0]}{', '.join(shown)}{brackets[1]}{more}"


def option_of(fix: Fix) -> str:
    """Return the options with which the command applies a fix."""
    return "--fix" if fix.is_safe else "--fix --unsafe-fixes"


def fixing_lines(outcome: Outcome, verb: str = "fixed") -> list[str]:
    """Return lines on fixed and unfixed findings or, without fixing, on fixable findings."""
    fixed = Counter(d.code for report in outcome.reports for d in report.fixed)
    left = [(r, d) for r in outcome.reports for d in r.diagnostics if r.source is not None]
    stuck = sum(1 for _, d in left if d.fix and d.fix.obstacle)
    safe = sum(1 for _, d in left if d.fix and not d.fix.obstacle and d.fix.is_safe)
    unsafe = sum(1 for _, d in left if d.fix and not d.fix.obstacle and not d.fix.is_safe)
    if not outcome.fixing:
        parts = [f"{safe} with --fix"] if safe else []
        parts += [f"{unsafe} with --fix --unsafe-fixes"] if unsafe else []
        return [f"fixable: {', '.join(parts)}"] if parts else []
    lines = []
    if fixed:
        files = sum(1 for report in outcome.reports if report.fixed)
        codes = _by_code(fixed)
        number = _plural(fixed.total(), "finding")
        lines.append(f"{verb} {number} in {_plural(files, 'file')}: {codes}")
    open_ = len(left) - stuck - unsafe
    parts = [f"{unsafe} fixable with --unsafe-fixes"] if unsafe else []
    parts += [f"{stuck} for the reason given at the finding"] if stuck else []
    parts += [f"{open_} to fix by hand"] if open_ else []
    return [*lines, f"not fixed: {', '.join(parts)}"] if parts else lines


def _by_code(found: Counter[str]) -> str:
    return ", ".join(f"{n} x {code}" if n > 1 else code for code, n in sorted(found.items()))


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
