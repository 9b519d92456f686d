"""Write comments that suppress the findings of a document, so that a check starts without any."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from adalora_core.checker.pipeline.fixing import Trials
from adalora_core.checker.pipeline.suppression import Line, Requests, line_of, unsuppressible
from adalora_core.checker.rules import BY_CODE
from adalora_core.config.changes import ConflictError
from adalora_core.floor.places import Edit, content_end, line_end, line_start

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.pipeline.fixing import Examine
    from adalora_core.checker.reports import Examined
    from adalora_core.config.findings import Diagnostic

_LINE_END = re.compile(r"\r\n|\n|\r|$")
_CONTENT = re.compile(r"^[ \t\f]*[^\s#]", re.MULTILINE)


_Ignore = tuple[Edit, Counter[str]]
"""An insertion that suppresses findings, and how many they are, by code."""


def add_ignores(found: Examined, examine: Examine) -> Examined:
    """Suppress every finding that a comment can suppress.

    A comment is written at the line of the finding, or where that is inside of a string or before
    a joined line, above it, at its last line, or for the whole file. The result is read: comments
    are kept if the document decodes to the same values and just their findings are gone.
    """
    trials = Trials(examine)
    at_the_last_line = partial(_at_the_line, is_end=True)
    for candidates in (_at_the_line, _above_the_line, at_the_last_line, _for_the_file):
        left = [
            diagnostic
            for diagnostic in found.report.diagnostics
            if unsuppressible(BY_CODE[diagnostic.code], diagnostic.code) is None
        ]
        if not left:
            break
        attempt = partial(_tried, trials, found)
        wanted = candidates(_Lines(found.document), left)
        if accepted := trials.compatible(wanted, attempt, lambda *_: None):
            found = attempt(accepted)
    return found


def _tried(trials: Trials, old: Examined, ignores: Sequence[_Ignore]) -> Examined:
    """Return the document with comments.

    Raises:
        ConflictError: they do anything else than suppress.
    """
    new = trials.read(old.document, [edit for edit, _ in ignores])
    # In a string a comment would be none.
    added = sum(len(findings) for _, findings in ignores)
    left = Counter(diagnostic.code for diagnostic in old.report.diagnostics)
    for _, findings in ignores:
        left -= findings
    before, after = (len(Requests(each.document).named_rules) for each in (old, new))
    kept = Counter(diagnostic.code for diagnostic in new.report.diagnostics)
    if after != before + added or not kept <= left:
        raise ConflictError("the comments do not suppress just their findings")
    return new


class _Lines:
    """The lines of a document's code, and the requests that apply to them."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.code = document.code
        self.requests = {named.line: named for named in Requests(document).named_rules}

    def line(self, diagnostic: Diagnostic, *, is_end: bool = False) -> tuple[int, int]:
        """Return where the code's line with the start or the end of a finding starts and ends."""
        span, script = diagnostic.span, self._document.script
        offset = 0 if span is None else max(span.start, span.end - 1) if is_end else span.start
        if script is not None and script.places is not None:
            offset = script.places.in_code(offset)
        end = _LINE_END.search(self.code, offset)
        return line_start(self.code, offset), end.start() if end else len(self.code)

    def insertion(self, at: int, text: str, findings: Iterable[Diagnostic]) -> _Ignore:
        """Return the insertion of text into the code; `CODES` stands for the rules."""
        counts = Counter(diagnostic.code for diagnostic in findings)
        text = text.replace("CODES", ", ".join(sorted(counts)))
        if self._document.format == "notebook":
            text = json.dumps(text)[1:-1]
        return Edit(self._document.span_in_code(at, at), text), counts


def _at_the_line(places: _Lines, left: list[Diagnostic], *, is_end: bool = False) -> list[_Ignore]:
    found = []
    for line, findings in _by_line(left, is_end=is_end).items():
        request = places.requests.get(line)
        if request is not None:
            found.append(places.insertion(request.names[-1][1], ", CODES", findings))
        else:
            start, end = places.line(findings[0], is_end=is_end)
            at = content_end(places.code, start, end)
            found.append(places.insertion(at, "  # adalora: ignore[CODES]", findings))
    return found


def _above_the_line(places: _Lines, left: list[Diagnostic]) -> list[_Ignore]:
    found = []
    for findings in _by_line(left).values():
        start, end = places.line(findings[0])
        line = places.code[start:end]
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        text = f"{indent}# adalora: ignore[CODES]{line_end(places.code, start)}"
        found.append(places.insertion(start, text, findings))
    return found


def _for_the_file(places: _Lines, left: list[Diagnostic]) -> list[_Ignore]:
    """Return one comment above the first line with content, behind those that have to be first."""
    request = places.requests.get(None)
    if request is not None:
        return [places.insertion(request.names[-1][1], ", CODES", left)]
    first = _CONTENT.search(places.code)
    start = first.start() if first else 0
    text = f"# adalora: ignore-file[CODES]{line_end(places.code, start)}"
    return [places.insertion(start, text, left)]


def _by_line(left: list[Diagnostic], *, is_end: bool = False) -> dict[Line, list[Diagnostic]]:
    found: dict[Line, list[Diagnostic]] = {}
    for diagnostic in left:
        if diagnostic.span is not None:
            found.setdefault(line_of(diagnostic.span, is_end=is_end), []).append(diagnostic)
    return found
