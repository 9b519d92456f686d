"""Comments that ask for findings not to be reported: `# adalora: ignore[ADA202]`."""

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

_HINT = re.compile(r"#\s*adalora\s*:", re.IGNORECASE)
_REQUEST = re.compile(
    r"#\s*adalora\s*:\s*(?P<word>[\w-]*)\s*(?:\[(?P<codes>[^\]\r\n]*)\])?", re.IGNORECASE
)
_CODE = re.compile(r"[^\s,][^,]*")
_WORDS = {"ignore": False, "ignore-file": True}
"""Whether the request is for the whole file."""


@dataclass(frozen=True, slots=True)
class _Word:
    """A rule that a request names.

    Args:
        code: of the rule.
        line: the line whose findings are meant; None: those of the whole file.
        extent: of the word.
        removal: what to cut out, and what to put there, to take the word back.
    """

    code: str
    line: int | None
    extent: Extent
    removal: tuple[Extent, str]

    def covers(self, diagnostic: Diagnostic) -> bool:
        """Return whether this asks for the finding not to be reported."""
        if diagnostic.code != self.code:
            return False
        span = diagnostic.span
        return self.line is None or (
            span is not None and self.line in {span.start_line, span.end_line}
        )


def suppress(document: Document, report: Report, is_judged: Callable[[str], bool]) -> Report:
    """Take out of a report what its document's comments ask for, and judge the requests.

    Args:
        document: the text that the report is on.
        report: all findings.
        is_judged: whether this run looks for a rule at all, given its code.

    Returns:
        The report with what is left, what was suppressed, and findings on requests that are
        unused or have no effect. A document in which nothing was checked keeps its findings.
    """
    if report.block is None or not _HINT.search(document.text):
        return report
    words: list[_Word] = []
    found: list[Diagnostic] = []
    for comment in comments(document):
        for match in _REQUEST.finditer(document.text, *comment):
            _read(document, comment, match, words, found)
    used: set[_Word] = set()
    kept: list[Diagnostic] = []
    gone: list[Diagnostic] = []
    for diagnostic in report.diagnostics:
        covering = [word for word in words if word.covers(diagnostic)]
        used.update(covering)
        (gone if covering else kept).append(diagnostic)
    found += [_unused(document, w) for w in words if w not in used and is_judged(w.code)]
    diagnostics = sorted([*kept, *found], key=lambda diagnostic: diagnostic.sort_key)
    return dataclasses.replace(
        report, diagnostics=tuple(diagnostics), suppressed=(*report.suppressed, *gone)
    )


def unused_file_ignores(
    entries: Iterable[FileIgnore],
    reports: Sequence[Report],
    searched: Container[str | None],
    is_judged: Callable[[str], bool],
) -> dict[int, list[Diagnostic]]:
    """Return findings on entries that took nothing out, by the index of the report they go to.

    An entry that names one file is judged when that file is checked; one with wildcards when all
    files that fit it were found by searching, since a hook may be handed any part of them.

    Args:
        entries: what was asked for.
        reports: those of the whole run.
        searched: names of the files that were not named one by one.
        is_judged: whether this run looks for a rule at all, given its code.
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
        if any(map(is_judged, entry.codes)):
            message = (
                f"--per-file-ignores {entry.pattern}:{entry.word}: there is no such finding in "
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
    words: list[_Word],
    found: list[Diagnostic],
) -> None:
    """Read one request into `words`, or say in `found` what is wrong with it."""
    word, codes = match["word"].lower(), match["codes"]
    if word not in _WORDS:
        if codes is not None and "ADA" in codes.upper():
            expected = " or ".join(_WORDS)
            found.append(_invalid(document, match.span(), f"expected {expected}, got {word!r}"))
        return
    named = [] if codes is None else list(_CODE.finditer(document.text, *match.span("codes")))
    if not named:
        message = f"{word} without the codes of rules would hide everything: it has no effect"
        found.append(_invalid(document, match.span(), message))
        return
    line = None if _WORDS[word] else _line_meant(document, comment)
    for index, each in enumerate(named):
        text = each.group().strip()
        extent = (each.start(), each.start() + len(text))
        rule = _rule(text)
        problem = _problem(rule, text)
        if problem is not None:
            found.append(_invalid(document, extent, problem))
        elif rule is not None:
            removal = _removal(document.text, comment, match, [n.span() for n in named], index)
            words.append(_Word(rule.code, line, extent, removal))


def _rule(text: str) -> Rule | None:
    by_name = {rule.name: rule for rule in RULES}
    return BY_CODE.get(text.upper()) or by_name.get(text.lower())


def _problem(rule: Rule | None, text: str) -> str | None:
    if rule is None:
        return f"there is no rule {text!r}; a family of rules cannot be suppressed as a whole"
    if not rule.can_be_ignored:
        return f"{rule.code} cannot be suppressed: nothing could be checked"
    if rule in (UNUSED, INVALID):
        return f"{rule.code} is about comments like this one; --ignore {rule.code} silences it"
    return None


def _line_meant(document: Document, comment: Extent) -> int:
    """Return the comment's own line, or if it stands alone the next that holds something."""
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
    """Return what to cut, and what to put there, so that one of the named rules goes."""
    if len(named) == 1:
        return _without_request(text, comment, match)
    if index + 1 < len(named):
        return (named[index][0], named[index + 1][0]), ""
    comma = text.rindex(",", 0, named[index][0])
    return (comma, named[index][1]), ""


def _without_request(text: str, comment: Extent, match: re.Match[str]) -> tuple[Extent, str]:
    """Return what to cut so that other words of the comment stay, and no empty one is left."""
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


def _unused(document: Document, word: _Word) -> Diagnostic:
    extent, replacement = word.removal
    place = "in this file" if word.line is None else f"at line {word.line}"
    return _diagnostic(
        document,
        UNUSED,
        word.extent,
        f"{word.code} is suppressed, and there is no such finding {place}",
        Fix("Take the suppression back", (Edit(document.span(*extent), replacement),)),
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
