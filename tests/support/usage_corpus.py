"""Compare what `adalora check` finds in scripts and notebooks with the verdicts of a reader.

A folder holds the files and `verdicts.json`: `{name: {"findings": [{"code", "line", "cell"}]}}`,
where `cell` and its `line` are of a notebook; `or` is another line that may be marked. A verdict
that was changed later has the reason under `changed`. A file that the verdicts do not name is left
out.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adalora_core.checker.documents import read
from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.inspection import examine
from adalora_core.floor.limits import DEFAULT_LIMITS

Place = tuple[str, int | None, int]
"""The code of a finding, the number of its cell and its line there."""


@dataclass
class Comparison:
    """The findings of a folder beside the verdicts.

    Args:
        files: the number of files.
        found: the faults that were found, by file.
        missed: the faults that were not.
        alarms: the findings that are not in the verdicts.
    """

    files: int = 0
    found: list[tuple[str, Place]] = field(default_factory=list)
    missed: list[tuple[str, Place]] = field(default_factory=list)
    alarms: list[tuple[str, Place]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of the faults that were found."""
        return len(self.found) / max(1, len(self.found) + len(self.missed))


def compare(folder: Path) -> Comparison:
    """Check each file of a folder that has a verdict."""
    verdicts: dict[str, Any] = json.loads((folder / "verdicts.json").read_text("utf-8"))
    result = Comparison()
    for name in sorted(verdicts):
        result.files += 1
        found = Counter(places(folder / name))
        expected = Counter(_expected(each, found) for each in verdicts[name]["findings"])
        result.found += [(name, place) for place in (expected & found).elements()]
        result.missed += [(name, place) for place in (expected - found).elements()]
        result.alarms += [(name, place) for place in (found - expected).elements()]
    return result


def _expected(verdict: dict[str, Any], found: Counter[Place]) -> Place:
    """Return the place of a verdict, or its other place if that was found."""
    code, cell = verdict["code"], verdict.get("cell")
    other = (code, cell, verdict.get("or", verdict["line"]))
    return other if other in found else (code, cell, verdict["line"])


def places(path: Path) -> list[Place]:
    """Return the codes and the lines of all errors and warnings about a file."""
    found: list[Place] = []
    document = read(str(path), DEFAULT_LIMITS, None)
    examined = examine(document, str(path), CheckOptions())
    for diagnostic in examined.report.diagnostics:
        span = diagnostic.span
        if diagnostic.severity == "info":
            continue
        if span is None:
            found.append((diagnostic.code, None, 1))
        elif span.cell is not None:
            found.append((diagnostic.code, span.cell.number, span.cell.start_line))
        else:
            found.append((diagnostic.code, None, span.start_line))
    return found
