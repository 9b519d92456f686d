"""Write how often each rule was violated, in place of the findings."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from adalora_core.contract.reports.summary import closing_lines, option_of

if TYPE_CHECKING:
    from adalora_core.contract.findings import Diagnostic
    from adalora_core.contract.reports import Outcome

FORMATS = ("full", "concise", "json")
"""The formats of a report that have statistics; the first two are the same table."""


def render_statistics(outcome: Outcome, format: str) -> str:  # noqa: A002 - the option's name
    """Return one line, or one object, for each rule and severity; the most frequent first."""
    rules: dict[tuple[str, str, str], list[Diagnostic]] = {}
    for report in outcome.reports:
        for diagnostic in report.diagnostics:
            key = diagnostic.code, diagnostic.name, diagnostic.severity
            rules.setdefault(key, []).append(diagnostic)
    ordered = sorted(rules.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    if format == "json":
        counts = [
            {
                "code": code,
                "name": name,
                "severity": severity,
                "count": len(found),
                "fixable": sum(_options(found).values()),
            }
            for (code, name, severity), found in ordered
        ]
        return json.dumps(counts, indent=2) + "\n"
    width = len(str(len(ordered[0][1]))) if ordered else 0
    lines = [
        f"{len(found):>{width}}  {code}  {severity:<7}  {name}{_fixable(found)}"
        for (code, name, severity), found in ordered
    ]
    return "".join(f"{line}\n" for line in [*lines, *closing_lines(outcome, with_fixes=True)])


def _fixable(found: list[Diagnostic]) -> str:
    options = _options(found)
    shown = [f"{number} with {option}" for option, number in sorted(options.items())]
    return f" [{', '.join(shown)}]" if shown else ""


def _options(found: list[Diagnostic]) -> Counter[str]:
    """Return how many findings each option fixes."""
    return Counter(option_of(d.fix) for d in found if d.fix and not d.fix.obstacle)
