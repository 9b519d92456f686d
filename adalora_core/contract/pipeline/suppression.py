"""Suppress findings by comments such as `# adalora: ignore[ADA202]`."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adalora_core.contract.findings import Diagnostic, Fix
from adalora_core.contract.pipeline.selection import WILDCARDS, fits
from adalora_core.contract.rules import BY_CODE, RULES
from adalora_core.contract.rules.suppressions import INVALID, UNUSED
from adalora_core.contract.text.comments import comments
from adalora_core.contract.text.places import Edit

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from adalora_core.contract.pipeline.selection import FileIgnore
    from adalora_core.contract.report import Report
    from adalora_core.contract.rules.base import Rule
    from adalora_core.contract.text.document import Document
    from adalora_core.contract.text.places import Extent

_MARKER = re.compile(r"#\s*adalora\s*:", re.IGNORECASE)
_REQUEST = re.compile(
    r"#\s*adalora\s*:\s*(?P<keyword>[\w-]*)\s*(?:\[(?P<codes>[^\]\r\n]*)\])?", re.IGNORECASE
)
_CODE = re.compile(r"[^\s,][^,]*")
_KEYWORDS = {"ignore": False, "ignore-file": True}
"""The keywords, and whether each one suppresses in the whole file."""


@dataclass(frozen=True, slots=True)
class _NamedRule:
    """A rule that a suppressing comment names.

    Args:
        code: the code of the rule.
        line: the line of the suppressed findings; None: the whole file.
        extent: the extent of the rule's name in the text.
        removal: the extent to cut and its replacement, to remove the name.
    """

    code: str
    line: int | None
    extent: Extent
    removal: tuple[Extent, str]

    def covers(self, diagnostic: Diagnostic) -> bool:
        """Return whether this suppresses the finding."""
        if diagnostic.code != self.code:
            return False
        span = diagnostic.span
        return self.line is None or (
            span is not None and self.line in {span.start_line, span.end_line}
        )


def suppress(document: Document, report: Report, is_active: Callable[[str], bool]) -> Report:
    """Suppress the findings that comments of the document name, and check these comments.

    Args:
        document: the checked document.
        report: all findings.
        is_active: whether this run checks a rule, given its code.

    Returns:
        The report with the remaining findings, the suppressed findings, and findings on comments
        that are unused or have no effect. A document in which nothing was checked keeps its
        findings.
    """
    if report.block is None or not _MARKER.search(document.text):
        return report
    named_rules: list[_NamedRule] = []
    found: list[Diagnostic] = []
    for comment in comments(document):
        for match in _REQUEST.finditer(document.text, *comment):
            _read(document, comment, match, named_rules, found)
    used: set[_NamedRule] = set()
    kept: list[Diagnostic] = []
    gone: list[Diagnostic] = []
    for diagnostic in report.diagnostics:
        covering = [named for named in named_rules if named.covers(diagnostic)]
        used.update(covering)
        (gone if covering else kept).append(diagnostic)
    found += [_unused(document, n) for n in named_rules if n not in used and is_active(n.code)]
    diagnostics = sorted([*kept, *found], key=lambda diagnostic: diagnostic.sort_key)
    return dataclasses.replace(
        report, diagnostics=tuple(diagnostics), suppressed=(*report.suppressed, *gone)
    )


def unused_file_ignores(
    entries: Iterable[FileIgnore],
    reports: Sequence[Report],
    searched: Container[str | None],
    is_active: Callable[[str], bool],
) -> dict[int, list[Diagnostic]]:
    """Return findings on entries that suppressed nothing, by the index of their report.

    An entry without wildcards is checked whenever its file is. An entry with wildcards is checked
    only if a search found all its files: a hook may get any part of them.

    Args:
        entries: the entries of `--per-file-ignores`.
        reports: all reports of the run.
        searched: names of the files that were found by searching, not named one by one.
        is_active: whether this run checks a rule, given its code.
    """
    found: dict[int, list[Diagnostic]] = {}
    for entry in entries:
        fitting = [i for i, r in enumerate(reports) if r.source and fits(r.source, entry.pattern)]
        is_whole = WILDCARDS.isdisjoint(entry.pattern) or all(
            reports[index].source in searched for index in fitting
        )
        codes = {d.code for index in fitting for d in reports[index].suppressed}
        if not fitting or not is_whole or not entry.codes.isdisjoint(codes):
            continue
        if any(map(is_active, entry.codes)):
            message = (
                f"--per-file-ignores {entry.pattern}:{entry.word} has no effect: no finding in "
                f"{'the file' if len(fitting) == 1 else f'any of the {len(fitting)} files'}"
            )
            finding = Diagnostic(
                UNUSED.code, UNUSED.name, UNUSED.severity, message, "", hint=UNUSED.hint
            )
            found.setdefault(fitting[0], []).append(finding)
    return found


def _read(
    document: Document,
    comment: Extent,
    match: re.Match[str],
    named_rules: list[_NamedRule],
    found: list[Diagnostic],
) -> None:
    """Read one comment into `named_rules`; add a finding to `found` if the comment is invalid."""
    keyword, codes = match["keyword"].lower(), match["codes"]
    if keyword not in _KEYWORDS:
        if codes is not None and "ADA" in codes.upper():
            expected = " or ".join(_KEYWORDS)
            found.append(_invalid(document, match.span(), f"expected {expected}, got {keyword!r}"))
        return
    named = [] if codes is None else list(_CODE.finditer(document.text, *match.span("codes")))
    if not named:
        message = f"{keyword} has no effect without the codes of rules"
        found.append(_invalid(document, match.span(), message))
        return
    line = None if _KEYWORDS[keyword] else _line_meant(document, comment)
    for index, each in enumerate(named):
        text = each.group().strip()
        extent = (each.start(), each.start() + len(text))
        rule = _rule(text)
        problem = _problem(rule, text)
        if problem is not None:
            found.append(_invalid(document, extent, problem))
        elif rule is not None:
            removal = _removal(document.text, comment, match, [n.span() for n in named], index)
            named_rules.append(_NamedRule(rule.code, line, extent, removal))


def _rule(text: str) -> Rule | None:
    by_name = {rule.name: rule for rule in RULES}
    return BY_CODE.get(text.upper()) or by_name.get(text.lower())


def _problem(rule: Rule | None, text: str) -> str | None:
    if rule is None:
        return f"there is no rule {text!r}, and a family of rules cannot be suppressed"
    if not rule.can_be_ignored:
        return f"{rule.code} cannot be suppressed: it reports that nothing could be checked"
    if rule in (UNUSED, INVALID):
        return f"{rule.code} cannot be suppressed by a comment; use --ignore {rule.code}"
    return None


def _line_meant(document: Document, comment: Extent) -> int:
    """Return the comment's line, or the next line with content if the comment is alone."""
    text = document.text
    own = document.span(*comment)
    before = text[comment[0] - own.start_column + 1 : comment[0]]
    if before.strip():
        return own.start_line
    following = re.compile(r"\s*(?:#[^\r\n]*\s*)*").match(text, comment[1])
    end = following.end() if following else comment[1]
    return document.span(end, end).start_line


def _removal(
    text: str, comment: Extent, match: re.Match[str], named: list[Extent], index: int
) -> tuple[Extent, str]:
    """Return the extent to cut and its replacement that remove one of the named rules."""
    if len(named) == 1:
        return _without_request(text, comment, match)
    if index + 1 < len(named):
        return (named[index][0], named[index + 1][0]), ""
    comma = text.rindex(",", 0, named[index][0])
    return (comma, named[index][1]), ""


def _without_request(text: str, comment: Extent, match: re.Match[str]) -> tuple[Extent, str]:
    """Return the removal of a request, and of the comment if it has no other words."""
    before = text[comment[0] : match.start()].rstrip()
    after = text[match.end() : comment[1]].strip(" \t-:;,")
    if after:
        return match.span(), "" if after.startswith("#") else "#"
    if before:
        return (comment[0] + len(before), comment[1]), ""
    start = len(text[: comment[0]].rstrip(" \t"))
    if start and text[start - 1] not in "\r\n":
        return (start, comment[1]), ""
    line_end = re.compile(r"\r\n|\n|\r|").match(text, comment[1])
    return (start, line_end.end() if line_end else comment[1]), ""


def _unused(document: Document, named: _NamedRule) -> Diagnostic:
    extent, replacement = named.removal
    place = "in this file" if named.line is None else f"at line {named.line}"
    return _diagnostic(
        document,
        UNUSED,
        named.extent,
        f"{named.code} is suppressed, but there is no such finding {place}",
        Fix("Remove the suppression", (Edit(document.span(*extent), replacement),)),
    )


def _invalid(document: Document, extent: Extent, message: str) -> Diagnostic:
    return _diagnostic(document, INVALID, extent, message)


def _diagnostic(
    document: Document, rule: Rule, extent: Extent, message: str, fix: Fix | None = None
) -> Diagnostic:
    span = document.span(*extent)
    return Diagnostic(
        rule.code, rule.name, rule.severity, message, "", span, hint=rule.hint, fix=fix
    )
