"""Find the fixes of a report that would change other values too, and apply edits to a text."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from adalora_core.contract.text import decode
from adalora_core.contract.text.changes import ConflictError, changed, same
from adalora_core.contract.text.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from adalora_core.contract.findings import Diagnostic
    from adalora_core.contract.report import Report
    from adalora_core.contract.text.document import Document
    from adalora_core.contract.text.places import Edit

MOST_CHARACTERS = 1 << 21
"""Bound on the characters that one round reads, all texts together, to separate fixes that
conflict; a reading takes about a microsecond per character."""


_MOST_OF_A_CHECK = 1 << 18
"""Bound on the characters that a check reads to find fixes that change other values too."""


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """Return `text` with the edits applied; the edits must not overlap.

    Every character outside of their spans stays.
    """
    pieces, at = [], 0
    for edit in sorted(edits, key=lambda edit: edit.span.start):
        pieces += [text[at : edit.span.start], edit.replacement]
        at = edit.span.end
    return "".join([*pieces, text[at:]])


def with_known_obstacles(document: Document, report: Report) -> Report:
    """Return the report, with an obstacle at each fix that would change other values too.

    An alias or a merge key repeats the text of a value. Equal edits of several findings are made
    together, as `fix` does.
    """
    groups: dict[tuple[Edit, ...], list[Diagnostic]] = {}
    for diagnostic in report.diagnostics:
        if diagnostic.fix is not None:
            groups.setdefault(diagnostic.fix.edits, []).append(diagnostic)
    most = _MOST_OF_A_CHECK // max(1, len(document.text))
    tried = list(groups.items())[:most]
    stuck = {edits for edits, group in tried if not _is_as_promised(document, group)}
    diagnostics = tuple(
        obstructed(d, SHARED) if d.fix is not None and d.fix.edits in stuck else d
        for d in report.diagnostics
    )
    return dataclasses.replace(report, diagnostics=diagnostics)


SHARED = (
    "the fix would change other values too, through an anchor or a merge key, or the new value "
    "cannot be written here"
)


def _is_as_promised(document: Document, group: Sequence[Diagnostic]) -> bool:
    changes = [change for d in group if d.fix for change in d.fix.changes]
    text = apply_edits(document.text, group[0].fix.edits if group[0].fix else ())
    found = decode(text.encode("utf-8", "surrogatepass"), document.format, DEFAULT_LIMITS)
    try:
        return not found.fatal and same(found.value, changed(document.value, changes))
    except ConflictError:
        return False


def obstructed(diagnostic: Diagnostic, obstacle: str) -> Diagnostic:
    """Return a finding whose fix cannot be applied, with the reason."""
    assert diagnostic.fix is not None  # noqa: S101 - only a fix has an obstacle
    fix = dataclasses.replace(diagnostic.fix, obstacle=obstacle)
    return dataclasses.replace(diagnostic, fix=fix)
