"""Turn findings into the client's diagnostics and code actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lsprotocol import types

from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.checker.reports import Examined
    from adalora_core.commands.server.snapshots import (
        CheckedSnapshot,
        ClientRange,
        Replacement,
    )
    from adalora_core.config.findings import Diagnostic

SOURCE = "adalora"
FIX_ALL = "source.fixAll.adalora"
ACTION_KINDS = (types.CodeActionKind.QuickFix, types.CodeActionKind.SourceFixAll)
MOST_ACTIONS = 20
"""The most fixes that are tried for one request; each is applied and read again."""

_SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "info": types.DiagnosticSeverity.Information,
}


def range_of(place: ClientRange) -> types.Range:
    """Return a place as a range of the protocol."""
    return types.Range(types.Position(*place.start), types.Position(*place.end))


def diagnostics(
    checked: CheckedSnapshot, *, with_related: bool
) -> dict[str, list[types.Diagnostic]]:
    """Return the findings on each text of a document, also on a text without one."""
    found: dict[str, list[types.Diagnostic]] = {part.uri: [] for part in checked.snapshot.parts}
    for each in () if checked.found is None else checked.found.report.diagnostics:
        place = checked.snapshot.place(each.span)
        if place is not None:
            found[place.uri].append(_diagnostic(checked, each, place, with_related=with_related))
    return found


def _diagnostic(
    checked: CheckedSnapshot, finding: Diagnostic, place: ClientRange, *, with_related: bool
) -> types.Diagnostic:
    message = visible(finding.message)
    if finding.hint:
        message += f" (hint: {visible(finding.hint)})"
    related = []
    for each in finding.related if with_related else ():
        if (there := checked.snapshot.place(each.span)) is not None and each.span is not None:
            location = types.Location(there.uri, range_of(there))
            related.append(types.DiagnosticRelatedInformation(location, visible(each.message)))
    return types.Diagnostic(
        range_of(place),
        message,
        severity=_SEVERITIES[finding.severity],
        code=finding.code,
        source=SOURCE,
        related_information=related or None,
    )


def actions(
    checked: CheckedSnapshot, place: ClientRange, kinds: Sequence[str] | None, *, versioned: bool
) -> list[types.CodeAction]:
    """Return the fixes of the findings on the lines of a place, and the one of all findings.

    `kinds` are those that the client asks for, None for every kind. It may take edits of a version.
    """
    found = checked.found
    if found is None or checked.inspector is None:
        return []
    offered: list[types.CodeAction] = []
    if _wants(kinds, types.CodeActionKind.QuickFix.value):
        offered += _quick_fixes(checked, found, place, versioned=versioned)
    if _wants(kinds, FIX_ALL) and (replaced := _replaced(checked, found)):
        edit = _workspace_edit(checked, replaced, versioned=versioned)
        title = "Apply all safe fixes of adalora"
        offered.append(types.CodeAction(title, FIX_ALL, edit=edit))
    return offered


def _wants(kinds: Sequence[str] | None, kind: str) -> bool:
    """Return whether the client asks for a kind, or for one that it belongs to."""
    asked = None if kinds is None else [getattr(each, "value", each) for each in kinds]
    return asked is None or any(not each or f"{kind}.".startswith(f"{each}.") for each in asked)


def _quick_fixes(
    checked: CheckedSnapshot, found: Examined, place: ClientRange, *, versioned: bool
) -> Iterator[types.CodeAction]:
    """Yield the fixes on the lines of a place; those at the place itself come first."""
    near = []
    for each in found.report.diagnostics:
        there = checked.snapshot.place(each.span)
        if each.fix is None or each.fix.obstacle or there is None or not there.shares_line(place):
            continue
        near.append((each, each.fix, there))
    near.sort(key=lambda one: not one[2].meets(place))
    for each, fix, there in near[:MOST_ACTIONS]:
        # Nothing is replaced if the result is not as promised.
        if replaced := _replaced(checked, found, only=each):
            yield types.CodeAction(
                f"{each.code}: {visible(fix.description)}"
                + ("" if fix.is_safe else " (may change what the file means)"),
                types.CodeActionKind.QuickFix,
                diagnostics=[_diagnostic(checked, each, there, with_related=False)],
                is_preferred=fix.is_safe or None,
                edit=_workspace_edit(checked, replaced, versioned=versioned),
            )


def _replaced(
    checked: CheckedSnapshot, found: Examined, only: Diagnostic | None = None
) -> list[Replacement]:
    """Return what the safe fixes replace, or the fix of one finding."""
    assert checked.inspector is not None  # noqa: S101 - the caller has tested it
    fixed = checked.inspector.fix(
        found, checked.snapshot.name, was_named=False, unsafe=only is not None, only=only
    )
    return checked.snapshot.replacements(found.document, fixed.document)


def _workspace_edit(
    checked: CheckedSnapshot, replaced: Sequence[Replacement], *, versioned: bool
) -> types.WorkspaceEdit:
    edits: dict[str, list[types.TextEdit]] = {}
    for place, text in replaced:
        edits.setdefault(place.uri, []).append(types.TextEdit(range_of(place), text))
    if not versioned:
        return types.WorkspaceEdit(changes=edits)
    changes = []
    for uri, each in edits.items():
        part = checked.snapshot.part(uri)
        version = None if part is None else part.version
        name = types.OptionalVersionedTextDocumentIdentifier(uri, version)
        changes.append(types.TextDocumentEdit(name, each))
    return types.WorkspaceEdit(document_changes=changes)
