"""Apply the fixes of a report, and read the result again to prove each one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from adalora_core.checker.documents import decode
from adalora_core.config.changes import Change, ConflictError, changed, same
from adalora_core.floor.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.reports import Examined, Report
    from adalora_core.config.findings import Diagnostic
    from adalora_core.floor.places import Edit

    Examine = Callable[[str], Examined]
    """Decodes a text and checks its configurations."""

    Group = TypeVar("Group")

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
    progress = _Progress(found, examine)
    for _ in range(MOST_ROUNDS):
        wanted = without_overlaps(progress.open(unsafe=unsafe))
        if not wanted:
            break
        progress.make(wanted)
    for diagnostic in progress.open(unsafe=unsafe):
        reason = f"fixes remain after {MOST_ROUNDS} rounds; run the command again"
        progress.obstacles[_name(diagnostic)] = reason
    return dataclasses.replace(progress.found, report=progress.report())


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


@dataclass
class _Progress:
    """A document during fixing: its state, the applied fixes, the obstacles."""

    found: Examined
    examine: Examine
    made: list[Diagnostic] = field(default_factory=list)
    obstacles: dict[Finding, str] = field(default_factory=dict)

    def open(self, *, unsafe: bool) -> list[Diagnostic]:
        """Return the findings with a fix that was not tried yet."""
        done = {_name(diagnostic) for diagnostic in self.made}
        found = []
        for diagnostic in self.found.report.diagnostics:
            name = _name(diagnostic)
            if diagnostic.fix is None or not (diagnostic.fix.is_safe or unsafe):
                continue
            if name in done:
                reason = "the fix was applied, but the finding is still there"
                self.obstacles.setdefault(name, reason)
            elif name not in self.obstacles:
                found.append(diagnostic)
        return found

    def make(self, wanted: Sequence[Diagnostic]) -> None:
        """Apply all fixes that can be applied together; record the obstacles of the others."""
        groups = [group for _, group in with_equal_edits(wanted)]
        trials = Trials(self.examine)

        def attempt(chosen: list[list[Diagnostic]]) -> Examined:
            edits = {edit for group in chosen for edit in _edits(group[0])}
            return trials.read(self.found.document, edits, changes_of(chain.from_iterable(chosen)))

        def refuse(group: list[Diagnostic], reason: str) -> None:
            self.obstacles |= {_name(diagnostic): reason for diagnostic in group}

        accepted = trials.compatible(groups, attempt, refuse)
        if accepted:
            self.found = attempt(accepted)
            self.made += chain.from_iterable(accepted)

    def report(self) -> Report:
        """Return the report with the fixed findings, and obstacles at the others."""
        report = _with_obstacles(self.found.report, lambda d: self.obstacles.get(_name(d)))
        return dataclasses.replace(report, fixed=tuple(self.made))


class Trials:
    """Readings of a document with edits."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine

    def read(
        self, document: Document, edits: Iterable[Edit], changes: Iterable[Change] = ()
    ) -> Examined:
        """Return the document with the edits applied, which must not overlap.

        Raises:
            ConflictError: the text does not decode to the document's value with the changes.
        """
        expected = changed(document.value, changes)  # of a text that was not decoded: nothing
        text = apply_edits(document.text, edits)
        found = self._examine(text)
        is_as_promised = document.fatal or same(found.document.value, expected)
        if found.document.fatal or not is_as_promised:
            raise ConflictError(SHARED)
        return found

    def compatible(
        self,
        groups: list[Group],
        attempt: Callable[[list[Group]], object],
        refuse: Callable[[Group, str], None],
    ) -> list[Group]:
        """Return the groups that can be made together; bisect to find the others.

        `attempt` raises `ConflictError` for groups that conflict: the first of them wins, and
        `refuse` takes the others.
        """

        def extended(before: list[Group], added: list[Group]) -> list[Group]:
            try:
                attempt(before + added)
            except ConflictError as error:
                if len(added) > 1:
                    middle = len(added) // 2
                    return extended(extended(before, added[:middle]), added[middle:])
                refuse(added[0], str(error))
                return before
            return before + added

        return extended([], groups) if groups else []


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

    trials = Trials(decoded)
    stuck = set()
    most = _MOST_OF_A_CHECK // max(1, len(document.text))
    for edits, group in with_equal_edits(report.diagnostics)[:most]:
        try:
            trials.read(document, edits, changes_of(group))
        except ConflictError:
            stuck.add(edits)
    return _with_obstacles(report, lambda d: SHARED if _edits(d) in stuck else None)


def with_equal_edits(
    diagnostics: Iterable[Diagnostic],
) -> list[tuple[tuple[Edit, ...], list[Diagnostic]]]:
    """Return the edits of each fix, with the findings that have the same; they go together."""
    groups: dict[tuple[Edit, ...], list[Diagnostic]] = {}
    for diagnostic in diagnostics:
        if diagnostic.fix is not None:
            groups.setdefault(diagnostic.fix.edits, []).append(diagnostic)
    return list(groups.items())


def changes_of(diagnostics: Iterable[Diagnostic]) -> list[Change]:
    """Return what the fixes of findings do to the decoded document."""
    return [change for d in diagnostics if d.fix is not None for change in d.fix.changes]


def _with_obstacles(report: Report, reason_of: Callable[[Diagnostic], str | None]) -> Report:
    """Return the report, in which each fix that cannot be applied has the reason."""
    diagnostics = list(report.diagnostics)
    for index, each in enumerate(diagnostics):
        if each.fix is not None and (reason := reason_of(each)) is not None:
            fix = dataclasses.replace(each.fix, obstacle=reason)
            diagnostics[index] = dataclasses.replace(each, fix=fix)
    return dataclasses.replace(report, diagnostics=tuple(diagnostics))
