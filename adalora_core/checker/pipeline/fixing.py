"""Apply the fixes of a report, and read the result again to prove each one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from adalora_core.checker.documents import decode
from adalora_core.checker.documents.document import Document
from adalora_core.checker.reports import Examined, Report
from adalora_core.config.findings import ConflictError, Diagnostic, changed, same
from adalora_core.floor.limits import DEFAULT_LIMITS
from adalora_core.floor.places import Edit

Examine = Callable[[str], Examined]
"""Decodes a text and checks its configurations."""

MOST_ROUNDS = 10
"""Bound on the rounds. A fix may uncover the next finding, but a few rounds are enough."""

_MOST_OF_A_CHECK = 1 << 18
"""Bound on the characters that a check reads to find fixes that change other values too."""

SHARED = (
    "the fix would change other values too, through an anchor or a merge key, or the new value "
    "cannot be written here"
)

Finding = tuple[str, str, str]
"""Code, pointer and message: they identify a finding from one round to the next."""


def fix(found: Examined, examine: Examine, *, unsafe: bool = False) -> Examined:
    """Apply every possible fix and check again, until nothing is left to fix.

    Each round applies all fixes whose edits do not overlap and reads the result. The result is
    kept only if it decodes to exactly what the fixes promise. A fix that breaks this is not
    applied: it gets an obstacle in the report, whose `fixed` holds the removed findings. A finding
    is fixed at most once.
    """
    made: dict[Finding, Diagnostic] = {}
    obstacles: dict[Finding, str] = {}
    for _ in range(MOST_ROUNDS):
        wanted = []
        for each in found.report.diagnostics:
            if each.fix is None or not (each.fix.is_safe or unsafe):
                continue
            if _name(each) in made:
                reason = "the fix was applied, but the finding is still there"
                obstacles.setdefault(_name(each), reason)
            elif _name(each) not in obstacles:
                wanted.append(each)
        groups = [group for _, group in _with_equal_edits(without_overlaps(wanted))]
        if not groups:
            break
        document, accepted = found.document, groups
        try:
            found = _read(document, groups, examine)
        except ConflictError:
            accepted = []
            for group in groups:
                try:
                    found = _read(document, [*accepted, group], examine)
                    accepted.append(group)
                except ConflictError as error:
                    obstacles |= dict.fromkeys(map(_name, group), str(error))
        made |= {_name(each): each for each in chain.from_iterable(accepted)}
    report = _with_obstacles(found.report, lambda each: obstacles.get(_name(each)))
    report = dataclasses.replace(report, fixed=tuple(made.values()))
    return dataclasses.replace(found, report=report)


def without_overlaps(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return findings whose edits can be applied together; the first of two in conflict wins.

    Equal edits do not conflict: two configurations may share a text.
    """
    chosen: list[Diagnostic] = []
    taken: set[Edit] = set()
    for diagnostic in diagnostics:
        edits = _edits(diagnostic)
        if not any(_collide(edit, other) for edit in edits for other in taken):
            chosen.append(diagnostic)
            taken.update(edits)
    return chosen


def _edits(diagnostic: Diagnostic) -> tuple[Edit, ...]:
    return diagnostic.fix.edits if diagnostic.fix else ()


def _collide(one: Edit, other: Edit) -> bool:
    a, b = one.span, other.span
    return one != other and (a.start == b.start or (a.start < b.end and b.start < a.end))


def _name(diagnostic: Diagnostic) -> Finding:
    return diagnostic.code, diagnostic.pointer, diagnostic.message


def _read(document: Document, groups: Iterable[Sequence[Diagnostic]], examine: Examine) -> Examined:
    """Return the document with the edits of fixes applied; those of a group are equal.

    Raises:
        ConflictError: the text does not decode to the document's value with their changes.
    """
    fixed = list(chain.from_iterable(groups))
    changes = [change for each in fixed if each.fix is not None for change in each.fix.changes]
    expected = changed(_value(document), changes)  # of a text that was not decoded: nothing
    edits = set(chain.from_iterable(map(_edits, fixed)))
    found = examine(apply_edits(document.text, edits))
    is_as_promised = document.fatal or same(_value(found.document), expected)
    if found.document.fatal or not is_as_promised:
        raise ConflictError(SHARED)
    return found


def _value(document: Document) -> Any:
    """Return what a document decodes to; of a script also the arguments of LoRA's calls."""
    if document.script is None or document.fatal:
        return document.value
    from adalora_core.checker.documents.python.script import LORA_CLASS

    return document.value | {LORA_CLASS: [each.values for each in document.script.lora_calls]}


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """Return `text` with the edits applied; the edits must not overlap.

    Every character outside of their spans stays.
    """
    pieces, at = [], 0
    for edit in sorted(edits, key=lambda edit: edit.span.start):
        pieces += [text[at : edit.span.start], edit.replacement]
        at = edit.span.end
    return "".join([*pieces, text[at:]])


def with_known_obstacles(examined: Examined) -> Report:
    """Return the report, with an obstacle at each fix that would change other values too.

    An alias or a merge key repeats the text of a value. Equal edits of several findings are made
    together, as `fix` does.
    """
    document, report = examined.document, examined.report

    def decoded(text: str) -> Examined:
        raw = text.encode("utf-8", "surrogatepass")
        again = decode(raw, document.format, DEFAULT_LIMITS)
        return dataclasses.replace(examined, document=again)

    stuck = set()
    most = _MOST_OF_A_CHECK // max(1, len(document.text))
    for edits, group in _with_equal_edits(report.diagnostics)[:most]:
        try:
            _read(document, [group], decoded)
        except ConflictError:
            stuck.add(edits)
    return _with_obstacles(report, lambda d: SHARED if _edits(d) in stuck else None)


def _with_equal_edits(
    diagnostics: Iterable[Diagnostic],
) -> list[tuple[tuple[Edit, ...], list[Diagnostic]]]:
    """Return the edits of each fix, with the findings that have the same; they go together."""
    groups: dict[tuple[Edit, ...], list[Diagnostic]] = {}
    for diagnostic in diagnostics:
        if diagnostic.fix is not None:
            groups.setdefault(diagnostic.fix.edits, []).append(diagnostic)
    return list(groups.items())


def _with_obstacles(report: Report, reason_of: Callable[[Diagnostic], str | None]) -> Report:
    """Return the report, in which each fix that cannot be applied has the reason."""
    diagnostics = list(report.diagnostics)
    for index, each in enumerate(diagnostics):
        if each.fix is not None and (reason := reason_of(each)) is not None:
            fix = dataclasses.replace(each.fix, obstacle=reason)
            diagnostics[index] = dataclasses.replace(each, fix=fix)
    return dataclasses.replace(report, diagnostics=tuple(diagnostics))
