"""Make the fixes that a report proposes; read the text again to prove each one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adalora_core.contract.text.changes import ConflictError, changed, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from adalora_core.contract.findings import Diagnostic
    from adalora_core.contract.pipeline.assembly import Examined
    from adalora_core.contract.report import Report
    from adalora_core.contract.text.places import Edit

    Examine = Callable[[str], Examined]
    """Decodes a text and checks what it holds."""

MOST_ROUNDS = 10
"""A fix may uncover the next finding; no file needs more than a few rounds."""

Finding = tuple[str, str, str]
"""Code, pointer and message, which name a finding from one round to the next."""


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """Return `text` with the edits made; they must not overlap.

    Every character outside of their spans stays.
    """
    pieces, at = [], 0
    for edit in sorted(edits, key=lambda edit: edit.span.start):
        pieces += [text[at : edit.span.start], edit.replacement]
        at = edit.span.end
    return "".join([*pieces, text[at:]])


def fix(found: Examined, examine: Examine, *, unsafe: bool = False) -> Examined:
    """Make every fix that can be made, and check again, until nothing is left to fix.

    Each round makes all fixes whose edits do not overlap, reads the result, and keeps it only if
    it decodes to exactly what the fixes promise. Fixes that break this are not made; the report
    gives the reason. One finding is fixed at most once.

    Args:
        found: the document to fix, and the report on it.
        examine: decodes and checks a text.
        unsafe: also make the fixes that change the meaning to what was probably meant.

    Returns:
        The document with all edits made, and the report on it: `fixed` holds what is gone, and a
        fix that could not be made has its obstacle.
    """
    work = _Work(found, examine)
    for _ in range(MOST_ROUNDS):
        wanted = without_overlaps(work.open(unsafe=unsafe))
        if not wanted:
            break
        work.make(wanted)
    for diagnostic in work.open(unsafe=unsafe):
        work.obstacles[_name(diagnostic)] = f"still to do after {MOST_ROUNDS} rounds"
    return dataclasses.replace(work.found, report=work.report())


def without_overlaps(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return those whose edits can be made together, earlier ones first.

    Two that make the very same edit, as two configurations that share a text do, go together.
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
    if one == other:
        return False
    a, b = one.span, other.span
    return a.start == b.start or (a.start < b.end and b.start < a.end)


def _name(diagnostic: Diagnostic) -> Finding:
    return diagnostic.code, diagnostic.pointer, diagnostic.message


@dataclass
class _Work:
    """A document that is being fixed, and what was done to it."""

    found: Examined
    examine: Examine
    made: list[Diagnostic] = field(default_factory=list)
    obstacles: dict[Finding, str] = field(default_factory=dict)

    def open(self, *, unsafe: bool) -> list[Diagnostic]:
        """Return the findings that have a fix which was not tried yet."""
        done = {_name(diagnostic) for diagnostic in self.made}
        found = []
        for diagnostic in self.found.report.diagnostics:
            name = _name(diagnostic)
            if diagnostic.fix is None or not (diagnostic.fix.is_safe or unsafe):
                continue
            if name in done:
                self.obstacles.setdefault(name, "its fix was made and did not remove it")
            elif name not in self.obstacles:
                found.append(diagnostic)
        return found

    def make(self, wanted: Sequence[Diagnostic]) -> None:
        """Make all fixes that can be made together; remember why the others cannot."""
        groups: dict[tuple[Edit, ...], list[Diagnostic]] = {}
        for diagnostic in wanted:
            groups.setdefault(_edits(diagnostic), []).append(diagnostic)
        accepted = self._accepted([], list(groups.values()))
        if accepted:
            self.found = self._tried(accepted)
            self.made += accepted

    def _accepted(
        self, before: list[Diagnostic], groups: list[list[Diagnostic]]
    ) -> list[Diagnostic]:
        """Return `before` and what of `groups` can be made with it; halves find the culprits."""
        together = before + [diagnostic for group in groups for diagnostic in group]
        try:
            self._tried(together)
        except ConflictError as error:
            if len(groups) == 1:
                self.obstacles |= {_name(diagnostic): str(error) for diagnostic in groups[0]}
                return before
            middle = len(groups) // 2
            return self._accepted(self._accepted(before, groups[:middle]), groups[middle:])
        return together

    def _tried(self, chosen: Sequence[Diagnostic]) -> Examined:
        """Return what is found with the chosen fixes made.

        Raises:
            ConflictError: the text would not decode to what the fixes promise.
        """
        edits = {edit for diagnostic in chosen for edit in _edits(diagnostic)}
        changes = [c for diagnostic in chosen if diagnostic.fix for c in diagnostic.fix.changes]
        expected = changed(self.found.document.value, changes)
        found = self.examine(apply_edits(self.found.document.text, edits))
        if found.document.fatal or not same(found.document.value, expected):
            raise ConflictError(
                "the same text is read at other places too, through an anchor or a merge, or "
                "cannot be written in another way here"
            )
        return found

    def report(self) -> Report:
        """Return the report with what was fixed, and with the obstacles of what is left."""
        diagnostics = tuple(self._with_obstacle(d) for d in self.found.report.diagnostics)
        return dataclasses.replace(
            self.found.report, diagnostics=diagnostics, fixed=tuple(self.made)
        )

    def _with_obstacle(self, diagnostic: Diagnostic) -> Diagnostic:
        obstacle = self.obstacles.get(_name(diagnostic))
        if obstacle is None or diagnostic.fix is None:
            return diagnostic
        fix = dataclasses.replace(diagnostic.fix, obstacle=obstacle)
        return dataclasses.replace(diagnostic, fix=fix)
