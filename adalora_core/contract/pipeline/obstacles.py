"""Try edits of a text: apply them, read the result, and keep those that do as they promise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

from adalora_core.contract.text import decode
from adalora_core.contract.text.changes import ConflictError, changed, same
from adalora_core.contract.text.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from adalora_core.contract.findings import Diagnostic
    from adalora_core.contract.report import Examined, Report
    from adalora_core.contract.text.changes import Change
    from adalora_core.contract.text.document import Document
    from adalora_core.contract.text.places import Edit

    Examine = Callable[[str], Examined]
    """Decodes a text and checks its configurations."""

    Group = TypeVar("Group")

MOST_CHARACTERS = 1 << 21
"""Bound on the characters that trials read, all texts together, to separate edits that conflict;
a reading takes about a microsecond per character."""

_MOST_OF_A_CHECK = 1 << 18
"""Bound on the characters that a check reads to find fixes that change other values too."""

SHARED = (
    "the fix would change other values too, through an anchor or a merge key, or the new value "
    "cannot be written here"
)


class Trials:
    """Readings of a document with edits; `characters` counts what they have read."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self.characters = 0

    def read(
        self, document: Document, edits: Iterable[Edit], changes: Iterable[Change] = ()
    ) -> Examined:
        """Return the document with the edits applied, which must not overlap.

        Raises:
            ConflictError: the text does not decode to the document's value with the changes.
        """
        expected = changed(document.value, changes)
        text = apply_edits(document.text, edits)
        self.characters += len(text)
        found = self._examine(text)
        if found.document.fatal or not same(found.document.value, expected):
            raise ConflictError(SHARED)
        return found

    def compatible(
        self,
        groups: list[Group],
        attempt: Callable[[list[Group]], object],
        refuse: Callable[[Group, str], None],
    ) -> list[Group]:
        """Return the groups that can be made together; bisect to find the others.

        Args:
            groups: what to make, in order; the first of two in conflict wins.
            attempt: makes some groups with `read`, and raises `ConflictError` if that fails.
            refuse: takes each group that is not made, with the reason.
        """

        def extended(before: list[Group], added: list[Group]) -> list[Group]:
            reason = "too many fixes conflict to try each; apply some by hand"
            if self.characters <= MOST_CHARACTERS:
                try:
                    attempt(before + added)
                except ConflictError as error:
                    reason = str(error)
                else:
                    return before + added
                if len(added) > 1:
                    middle = len(added) // 2
                    return extended(extended(before, added[:middle]), added[middle:])
            for group in added:
                refuse(group, reason)
            return before

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
    diagnostics = tuple(
        obstructed(d, SHARED) if d.fix is not None and d.fix.edits in stuck else d
        for d in report.diagnostics
    )
    return dataclasses.replace(report, diagnostics=diagnostics)


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


def obstructed(diagnostic: Diagnostic, obstacle: str) -> Diagnostic:
    """Return a finding whose fix cannot be applied, with the reason."""
    assert diagnostic.fix is not None  # noqa: S101 - only a fix has an obstacle
    fix = dataclasses.replace(diagnostic.fix, obstacle=obstacle)
    return dataclasses.replace(diagnostic, fix=fix)
