"""Write findings for people, in full or one line for each, and what other formats share with it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora_core.config.findings import Checked, Diagnostic, Fix, Related
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.checker.reports import Outcome
    from adalora_core.floor.places import Span

    _Paint = Callable[[str, str], str]

NO_NAME = "<config>"
"""The name of a source that is not a file."""
LONGEST_SETTING, LONGEST_HIDING_SETTING = 100, 300
"""Largest number of characters of one setting that are shown."""
_HIDING = frozenset({"exclude", "ignore", "per-file-ignores", "select"})
"""The settings that hide findings; they are shown in whole entries, and what is left is counted."""
WIDEST = 100
"""Largest number of source columns in an excerpt."""

_COLOURS = {"error": "31;1", "warning": "33;1", "info": "36;1", "caret": "31"}


def render(outcome: Outcome) -> str:
    """Write every finding with an excerpt, then the summary."""
    paint = _colour if outcome.colour else lambda text, _: text
    lines: list[str] = []
    for report in outcome.reports:
        for diagnostic, following in _slips(report.diagnostics):
            lines += [*_diagnostic(report, diagnostic, following, paint), ""]
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
        for report, d in outcome.findings
    ]
    lines += closing_lines(outcome, with_fixes=True)
    return "".join(f"{line}\n" for line in lines)


def _colour(text: str, role: str) -> str:
    return f"\x1b[{_COLOURS[role]}m{text}\x1b[0m"


def _slips(found: Sequence[Diagnostic]) -> Iterator[tuple[Diagnostic, list[Diagnostic]]]:
    """Yield each finding with those that follow from it; one whose cause is not there is alone."""

    def place_of(each: Diagnostic | Related) -> tuple[str | None, Span | str]:
        return each.code, each.span or each.pointer  # calls that share a dict share its text

    following: dict[tuple[str | None, Span | str], list[Diagnostic]]
    following = {place_of(each): [] for each in found if each.cause is None}
    heads: list[Diagnostic] = []
    for each in found:
        rest = None if each.cause is None else following.get(place_of(each.cause))
        (heads if rest is None else rest).append(each)
    for each in heads:
        yield each, following.pop(place_of(each), []) if each.cause is None else []


def _diagnostic(
    report: Checked, diagnostic: Diagnostic, following: Sequence[Diagnostic], paint: _Paint
) -> Iterator[str]:
    head = paint(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity)
    yield f"{head} {visible(diagnostic.message)}"
    pointer = f" ({visible(diagnostic.pointer)})" if diagnostic.pointer else ""
    yield f"  --> {place(report, diagnostic.span)}{pointer}"
    if report.text is not None and diagnostic.span is not None:
        yield from _excerpt(report.text, diagnostic.span, paint)
    for related in diagnostic.related:
        yield f"  note: {visible(related.message)} ({place(report, related.span)})"
    for each in following:
        head = paint(f"{each.severity}[{each.code}]", each.severity)
        yield f"  note: hence {head} {visible(each.message)} ({place(report, each.span)})"
    fix = diagnostic.fix
    if diagnostic.hint:
        # The command can fix files only.
        unsafe = "" if fix is None or fix.is_safe else " --unsafe-fixes"
        options = f" [--fix{unsafe}]" if fix and not fix.obstacle and report.source else ""
        yield f"  hint: {visible(diagnostic.hint)}{options}"
        if fix and not fix.obstacle and (line := _mended_line(report, fix)):
            yield f"        {visible(line, None)}"
    if fix and fix.obstacle:
        yield f"  not fixed: {visible(fix.obstacle)}"


def _mended_line(report: Checked, fix: Fix) -> str | None:
    """Return the line that a fix leaves, to be pasted; None if it changes more or is too long."""
    edit, text = fix.edits[0], report.text or ""
    span = edit.span
    is_in_line = span.start_line == span.end_line and span.start_column <= WIDEST
    if len(fix.edits) > 1 or span.cell is not None or not is_in_line:
        return None
    before = text[span.start - span.start_column + 1 : span.start]
    line = before + edit.replacement + text[span.end : span.end + WIDEST + 1]
    line = re.split(r"[\r\n]", line, maxsplit=1)[0].strip()
    return line if len(line) <= WIDEST else None


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


def place(report: Checked, span: Span | None) -> str:
    """Return `file:line:column`, in a notebook `file:cell 3:line:column`; or the file alone."""
    name = visible(report.source or NO_NAME)
    if span is None:
        return name
    if span.cell is None:
        return f"{name}:{span.start_line}:{span.start_column}"
    return f"{name}:cell {span.cell.number}:{span.cell.start_line}:{span.cell.start_column}"


def with_hint(diagnostic: Diagnostic) -> str:
    """Return the message and the hint of a finding in one text."""
    text = visible(diagnostic.message)
    return f"{text}. Hint: {visible(diagnostic.hint)}" if diagnostic.hint else text


def in_cell(span: Span | None) -> str:
    """Return `cell 3, line 2: ` for a place in a notebook, for formats without room for it."""
    if span is None or span.cell is None:
        return ""
    return f"cell {span.cell.number}, line {span.cell.start_line}: "


def name_below(folder: Path, source: str | None) -> str | None:
    """Return a file's name relative to `folder`, with forward slashes; None if it is outside."""
    full = Path(source or NO_NAME).absolute()
    return full.relative_to(folder).as_posix() if full.is_relative_to(folder) else None


def fingerprint(name: str, diagnostic: Diagnostic, seen: dict[str, int]) -> str:
    """Return an identifier of a finding that does not depend on lines; repetitions get a number."""
    return digest([name, diagnostic.pointer, diagnostic.code, diagnostic.message], seen)


def digest(key: Sequence[str], seen: dict[str, int]) -> str:
    """Return a digest of texts; repetitions in this run get a number."""
    import hashlib  # services alone need it

    found = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    seen[found] = seen.get(found, 0) + 1
    return f"{found}:{seen[found]}"


def summary(outcome: Outcome) -> str:
    """Return the last line: `checked 2 configurations: 1 error, 0 warnings`."""
    found = outcome.counts
    words = [_plural(found["error"], "error"), _plural(found["warning"], "warning")]
    if found["info"]:
        words.append(f"{found['info']} info")
    scripts = sum(report.block is None and report.has_script for report in outcome.reports)
    parts = [_plural(len(outcome.reports) - scripts, "configuration")]
    if scripts:
        parts = [*parts * (len(outcome.reports) > scripts), _plural(scripts, "script")]
        parts[-1] += " without a configuration"
    line = f"checked {' and '.join(parts)}: {', '.join(words)}"
    unjudged = sum(report.unjudged for report in outcome.reports)
    if unjudged:
        line += f"; the values of {_plural(unjudged, 'configuration')} are known at run time only"
    suppressed = Counter(d.code for report in outcome.reports for d in report.suppressed)
    if suppressed:
        line += f"; suppressed {_plural(suppressed.total(), 'finding')}: {_by_code(suppressed)}"
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


def fixing_lines(outcome: Outcome, verb: str = "fixed") -> list[str]:
    """Return lines on fixed and unfixed findings or, without fixing, on fixable findings."""
    fixed = Counter(d.code for report in outcome.reports for d in report.fixed)
    left = [each.fix for report, each in outcome.findings if report.source is not None]
    stuck = sum(1 for fix in left if fix and fix.obstacle)
    kinds = [fix.is_safe for fix in left if fix and not fix.obstacle]
    safe, unsafe = kinds.count(True), kinds.count(False)
    if not outcome.fixing:
        parts = [f"{safe} with --fix"] if safe else []
        parts += [f"{unsafe} with --fix --unsafe-fixes"] if unsafe else []
        return [f"fixable: {', '.join(parts)}"] if parts else []
    lines = []
    if fixed:
        files = _plural(sum(1 for report in outcome.reports if report.fixed), "file")
        lines.append(f"{verb} {_plural(fixed.total(), 'finding')} in {files}: {_by_code(fixed)}")
    open_ = len(left) - stuck - unsafe
    parts = [f"{unsafe} fixable with --unsafe-fixes"] if unsafe else []
    parts += [f"{stuck} for the reason given at the finding"] if stuck else []
    parts += [f"{open_} to fix by hand"] if open_ else []
    return [*lines, f"not fixed: {', '.join(parts)}"] if parts else lines


def _by_code(found: Counter[str]) -> str:
    return ", ".join(f"{n} x {code}" if n > 1 else code for code, n in sorted(found.items()))


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
