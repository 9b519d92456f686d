"""Which findings count: rules chosen and left out by code, by family or by name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adalora_core.contract.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adalora_core.contract.diagnostics import Report


@dataclass(frozen=True, slots=True)
class Selection:
    """A set of rules' codes."""

    codes: frozenset[str]

    @classmethod
    def of(cls, select: Iterable[str] = (), ignore: Iterable[str] = ()) -> Selection:
        """Select rules; a word is a code (ADA202), the beginning of codes (ADA2) or a name.

        Args:
            select: only these; empty: all.
            ignore: not these; it wins over `select`.

        Raises:
            ValueError: a word fits no rule.
        """
        chosen = _codes(select) or frozenset(rule.code for rule in RULES)
        return cls(chosen - _codes(ignore))

    def apply(self, report: Report) -> Report:
        """Return the report with the findings of the selected rules."""
        kept = tuple(d for d in report.diagnostics if d.code in self.codes)
        if len(kept) == len(report.diagnostics):
            return report
        return dataclasses.replace(report, diagnostics=kept)


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
                f"there is no rule {word!r}; expected a code such as ADA202, the beginning of "
                "codes such as ADA2, or a name such as no-budgeting-phase"
            )
        found |= fitting
    return frozenset(found)
