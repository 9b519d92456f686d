"""Apply the fixes of a report, and read the result again to prove each one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from adalora_core.contract.pipeline.obstacles import (
    Trials,
    changes_of,
    obstructed,
    with_equal_edits,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from adalora_core.contract.findings import Diagnostic
    from adalora_core.contract.pipeline.obstacles import Examine
    from adalora_core.contract.report import Examined, Report
    from adalora_core.contract.text.places import Edit

MOST_ROUNDS = 10
"""Bound on the rounds. A fix may uncover the next finding, but a few rounds are enough."""

Finding = tuple[str, str, str]
"""Code, pointer and message: they identify a finding from one round to the next."""


def fix(found: Examined, examine: Examine, *, unsafe: bool = False) -> Examined:
    """Apply every possible fix and check again, until nothing is left to fix.

    Each round applies all fixes whose edits do not overlap and reads the result. The result is
    kept only if it decodes to exactly what the fixes promise. A fix that breaks this is not
    applied, and the report gives the reason. A finding is fixed at most once.

    Args:
        found: the document to fix, and the report on it.
        examine: decodes and checks a text.
        unsafe: also apply fixes that change the meaning to what was probably meant.

    Returns:
        The document with all edits applied, and the report on it. `fixed` holds the removed
        findings; a fix that could not be applied has an obstacle.
    """
    progress = _Progress(found, examine)
    for _ in range(MOST_ROUNDS):
        wanted = without_overlaps(progress.open(unsafe=unsafe))
        if not wanted:
            break
        progress.make(wanted)
    for diagnostic in progress.open(unsafe=unsafe):
        progress.obstacles[_name(diagnostic)] = (
            f"fixes remain after {MOST_ROUNDS} rounds; run the command again"
        )
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
    if one == other:
        return False
    a, b = one.span, other.span
    return a.start == b.start or (a.start < b.end and b.start < a.end)


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
                self.obstacles.setdefault(
                    name, "the fix was applied, but the finding is still there"
                )
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
        diagnostics = tuple(self._with_obstacle(d) for d in self.found.report.diagnostics)
        return dataclasses.replace(
            self.found.report, diagnostics=diagnostics, fixed=tuple(self.made)
        )

    def _with_obstacle(self, diagnostic: Diagnostic) -> Diagnostic:
        obstacle = self.obstacles.get(_name(diagnostic))
        if obstacle is None or diagnostic.fix is None:
            return diagnostic
        return obstructed(diagnostic, obstacle)
