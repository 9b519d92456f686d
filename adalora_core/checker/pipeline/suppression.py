"""Select the findings to report: by code, family or name of the rule, by file, and by comments."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adalora_core.checker.rules import BY_CODE, RULES
from adalora_core.checker.rules.input import CommandRule, InvalidSuppression, UnusedSuppression
from adalora_core.config.findings import Diagnostic
from adalora_core.floor.places import Extent, Span, content_end

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.reports import Report
    from adalora_core.config.rules.base import Rule


WILDCARDS = frozenset("*?[")
"""Characters that turn a name into a pattern."""


def fits(name: str, pattern: str) -> bool:
    """Return whether a file's name, or its end behind a slash, matches a pattern with wildcards.

    An absolute pattern is compared with the absolute path.
    """
    if Path(pattern).is_absolute():
        # Path.resolve would follow links, Path.absolute would keep `..`.
        return fnmatch(Path(os.path.abspath(name)).as_posix(), pattern)  # noqa: PTH100
    posix = Path(name).as_posix()
    return fnmatch(posix, pattern) or fnmatch(posix, f"*/{pattern}")


FileIgnore = tuple[str, frozenset[str]]
"""A pattern of files, and the codes of the rules that are not reported there."""


def file_ignores(settings: Iterable[str]) -> tuple[FileIgnore, ...]:
    """Read `PATTERN:CODES` settings of `--per-file-ignores`.

    Raises:
        ValueError: a setting has another form, or names no rule or every rule.
    """
    found = []
    for setting in settings:
        pattern, _, words = setting.rpartition(":")
        named = [word.strip() for word in words.split(",") if word.strip()]
        if not pattern or not named:
            raise ValueError(
                "--per-file-ignores: expected PATTERN:CODES such as tests/*.json:ADA207, "
                f"got {setting!r}"
            )
        found.append((pattern, _ignored(named)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Selection:
    """The codes of the rules to report, with exceptions for some files."""

    codes: frozenset[str]
    per_file: tuple[FileIgnore, ...] = ()

    @classmethod
    def of(
        cls,
        select: Iterable[str] = (),
        ignore: Iterable[str] = (),
        per_file_ignores: Iterable[str] = (),
    ) -> Selection:
        """Select rules; a word is a code (ADA202), the beginning of codes (ADA2) or a name.

        Rules that report that nothing could be checked are always selected.

        Args:
            select: the rules to report; empty: all rules.
            ignore: rules to leave out, also of `select`.
            per_file_ignores: `PATTERN:CODES`, rules to leave out in files that match.

        Raises:
            ValueError: a word names no rule, or a rule that cannot be ignored.
        """
        chosen = _codes(select) or frozenset(rule.code for rule in RULES)
        always = frozenset(rule.code for rule in RULES if not rule.can_be_ignored)
        codes = (chosen - _ignored(ignore)) | always
        return cls(codes, file_ignores(per_file_ignores))

    def apply(self, report: Report) -> Report:
        """Return the report with the selected findings.

        A document in which nothing was checked keeps all its findings: it must not pass.
        """
        if not report.was_checked:
            return report
        ignored: set[str] = set()
        for pattern, codes in self.per_file:
            if report.source is not None and fits(report.source, pattern):
                ignored |= codes
        counting = [d for d in report.diagnostics if d.code in self.codes]
        kept = tuple(d for d in counting if d.code not in ignored)
        if len(kept) == len(report.diagnostics):
            return report
        gone = tuple(d for d in counting if d.code in ignored)
        return dataclasses.replace(report, diagnostics=kept, suppressed=(*report.suppressed, *gone))


def _ignored(words: Iterable[str]) -> frozenset[str]:
    """Return the codes of the rules to leave out.

    Raises:
        ValueError: a word names no rule, every rule, or a rule that cannot be ignored.
    """
    found: set[str] = set()
    for word in words:
        codes = _codes([word])
        if len(codes) == len(RULES):
            raise ValueError(f"{word!r} names every rule; to ignore whole files use --exclude")
        if not any(BY_CODE[code].can_be_ignored for code in codes):
            raise ValueError(
                f"{word} cannot be ignored: a file in which nothing could be checked must not "
                "pass; to ignore the file use --exclude"
            )
        found |= {code for code in codes if BY_CODE[code].can_be_ignored}
    return frozenset(found)


def unknown_rule(word: str) -> str:
    """Return the message about an unknown rule, with the one that was probably meant."""
    from difflib import get_close_matches  # slow to import, and most words are right

    known = [name for rule in RULES for name in (rule.name, rule.code.lower())]
    is_number = word[3:].isdecimal()  # another number is another rule
    near = [] if is_number else get_close_matches(word.lower(), known, n=1, cutoff=0.75)
    meant = BY_CODE.get(near[0].upper()) if near else None
    proposal = f" (did you mean {meant.code if meant else near[0]}?)" if near else ""
    return f"there is no rule {word!r}{proposal}"


def _codes(words: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for word in words:
        fitting = {
            rule.code
            for rule in RULES
            if rule.name == word or (word and rule.code.startswith(word.upper()))
        }
        if not fitting:
            raise ValueError(
                f"{unknown_rule(word)}; expected a code such as ADA202, the beginning of codes "
                "such as ADA2, or a name such as no-budgeting-phase"
            )
        found |= fitting
    return frozenset(found)


_MARKER = re.compile(r"#\s*adalora\s*:", re.IGNORECASE)
_REQUEST = re.compile(
    r"#\s*adalora\s*:\s*(?P<keyword>[\w-]*)\s*(?:\[(?P<codes>[^\]\r\n]*)\])?", re.IGNORECASE
)
_CODE = re.compile(r"[^\s,][^,]*")
_KEYWORDS = {"ignore": False, "ignore-file": True}
"""The keywords, and whether each one suppresses in the whole file."""

_BLANKS_AND_COMMENTS = re.compile(r"(?:\s++|#[^\r\n]*+)*+")
_BY_NAME = {rule.name: rule for rule in RULES}

Line = tuple[int, int]
"""A line; first the number of its cell in a notebook, else 0."""
_Place = tuple[str, Line | None]
"""A code, and the line of the suppressed findings; None: the whole file."""


class _NamedRule(NamedTuple):
    """A rule that a suppressing comment names; `extent` is that of the name."""

    code: str
    line: Line | None
    extent: Extent


def suppress(document: Document, report: Report, is_active: Callable[[str], bool]) -> Report:
    """Suppress the findings that comments of the document name, and report comments without effect.

    A document in which nothing was checked keeps its findings. `is_active` tells whether this run
    checks the rule of a code.
    """
    if not report.was_checked or not _MARKER.search(document.text):
        return report
    requests = _Requests(document)
    places = {(named.code, named.line) for named in requests.named_rules}
    used: set[_Place] = set()
    kept: list[Diagnostic] = []
    gone: list[Diagnostic] = []
    for diagnostic in report.diagnostics:
        covering = places.intersection(_places_of(diagnostic))
        used |= covering
        (gone if covering else kept).append(diagnostic)
    kept += requests.invalid
    kept += [
        _unused(document, named)
        for named in requests.named_rules
        if (named.code, named.line) not in used and is_active(named.code)
    ]
    diagnostics = tuple(sorted(kept, key=lambda diagnostic: diagnostic.sort_key))
    suppressed = (*report.suppressed, *gone)
    return dataclasses.replace(report, diagnostics=diagnostics, suppressed=suppressed)


def _places_of(diagnostic: Diagnostic) -> Iterator[_Place]:
    yield diagnostic.code, None
    if diagnostic.span is not None:
        yield diagnostic.code, _line_of(diagnostic.span)
        yield diagnostic.code, _line_of(diagnostic.span, is_end=True)


def _line_of(span: Span, *, is_end: bool = False) -> Line:
    """Return the line on which a stretch of the source starts or ends."""
    where = span if span.cell is None else span.cell
    number = 0 if span.cell is None else span.cell.number
    return number, where.end_line if is_end else where.start_line


class _Requests:
    """The requests of a document to suppress findings.

    Attributes:
        named_rules: the rules that they name.
        invalid: a finding on each request, or name in one, that has no effect.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._text = document.code
        self._content: tuple[int, int, Line] = (0, 0, (0, 0))
        self.named_rules: list[_NamedRule] = []
        self.invalid: list[Diagnostic] = []
        for comment in comments(document):
            for match in _REQUEST.finditer(self._text, *comment):
                self._read(comment, match)

    def _read(self, comment: Extent, match: re.Match[str]) -> None:
        keyword, codes = match["keyword"].lower(), match["codes"] or ""
        named = list(_CODE.finditer(self._text, *match.span("codes"))) if codes else []
        span = self._document.span_in_code(*match.span())
        if keyword not in _KEYWORDS:
            if "ADA" in codes.upper():
                message = f"expected {' or '.join(_KEYWORDS)}, got {keyword!r}"
                self._refuse(match.span(), message)
        elif self._document.text[span.start : span.end] != match.group():
            # Whoever reads the file, or a change of it, would not see the request.
            message = f"{keyword} has no effect with escapes or in two strings; write it plainly"
            self._refuse(match.span(), message)
        elif not named:
            self._refuse(match.span(), f"{keyword} has no effect without the codes of rules")
        else:
            line = None if _KEYWORDS[keyword] else self._line_meant(comment)
            for each in named:
                name = each.group().rstrip()
                extent = each.start(), each.start() + len(name)
                rule = BY_CODE.get(name.upper()) or _BY_NAME.get(name.lower())
                if problem := _why_unsuppressible(rule, name):
                    self._refuse(extent, problem)
                elif rule is not None:
                    self.named_rules.append(_NamedRule(rule.code, line, extent))

    def _refuse(self, extent: Extent, message: str) -> None:
        self.invalid.append(_diagnostic(self._document, InvalidSuppression, extent, message))

    def _line_meant(self, comment: Extent) -> Line:
        """Return the comment's line, or the next line with content if the comment is alone."""
        document, text = self._document, self._text
        before = content_end(text, 0, comment[0], " \t\f\ufeff")
        if before and text[before - 1] not in "\r\n":
            return _line_of(document.span_in_code(*comment))
        start, end, line = self._content
        if not start <= comment[1] <= end:  # else a comment above has found the same line
            following = _BLANKS_AND_COMMENTS.match(text, comment[1])
            end = following.end() if following else comment[1]
            line = _line_of(document.span_in_code(end, end))
            self._content = (comment[1], end, line)
        return line


def _why_unsuppressible(rule: Rule | None, text: str) -> str | None:
    """Return why a comment cannot suppress a rule, under the name that it gives; None: it can."""
    if rule is None:
        return f"{unknown_rule(text)}; a family of rules cannot be suppressed"
    if not rule.can_be_ignored:
        return f"{rule.code} cannot be suppressed: it reports that nothing could be checked"
    if isinstance(rule, CommandRule):
        return f"{rule.code} cannot be suppressed by a comment; use --ignore {rule.code}"
    return None


def _unused(document: Document, named: _NamedRule) -> Diagnostic:
    place = "in this file"
    if named.line is not None:
        cell, line = named.line
        place = f"at line {line}" + (f" of cell {cell}" if cell else "")
    message = f"{named.code} is suppressed, but there is no such finding {place}"
    return _diagnostic(document, UnusedSuppression, named.extent, message)


def _diagnostic(document: Document, rule: type[Rule], extent: Extent, message: str) -> Diagnostic:
    span = document.span_in_code(*extent)
    return Diagnostic(rule.code, rule.name, rule.severity, message, "", span, hint=rule.hint)


def comments(document: Document) -> Iterator[Extent]:
    """Yield the extents of all comments, hashes included, of a text that was decoded."""
    if document.format == "toml":
        from adalora_core.checker.documents.toml_source import STRING

        pattern = rf"({STRING.pattern})|\#[^\r\n]*+"
        found = re.finditer(pattern, document.text, STRING.flags)
        yield from (match.span() for match in found if match[1] is None)
    elif document.script is not None:
        from adalora_core.checker.documents.python.lexical import comments as in_code

        yield from in_code(document.script.code)
    elif document.format == "yaml":
        from adalora_core.checker.documents.yaml_source import comments as in_yaml

        yield from in_yaml(document.text)
