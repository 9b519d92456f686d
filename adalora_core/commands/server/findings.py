"""Turn findings into diagnostics, code actions and descriptions, and show the plan of a block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lsprotocol import types

from adalora_core.checker.plan.plan import Plan, plan_of
from adalora_core.checker.rules import BY_CODE, findings, page
from adalora_core.commands.server.snapshots import Replacement
from adalora_core.config.fields.table import Field, use_of
from adalora_core.config.fields.value_kinds import phrase_of
from adalora_core.config.schemas.editor import CHOICES, description_of
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.checker.reports import Examined
    from adalora_core.commands.server.snapshots import CheckedSnapshot, ClientRange, Position
    from adalora_core.config.fields.block import Block
    from adalora_core.config.findings import Diagnostic

SOURCE = "adalora"
FIX_ALL = "source.fixAll.adalora"
ACTION_KINDS = (types.CodeActionKind.QuickFix, types.CodeActionKind.SourceFixAll)
MOST_ACTIONS = 20
"""The most findings whose changes are tried for one request; each is made and read again."""
_BEHIND_A_LINE = 1 << 30
"""A column beyond the end of every line, which stands for its end."""

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
    """Return for the findings on the lines of a place their fixes and comments that ignore them.

    The fix of all findings comes last.
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
    """Yield the changes on the lines of a place, those at the place itself first, fixes first.

    Nothing is offered if the result is not as promised.
    """
    near = []
    for each in found.report.diagnostics:
        there = checked.snapshot.place(each.span)
        if there is not None and there.shares_line(place):
            near.append((each, there))
    near = sorted(near, key=lambda one: not one[1].meets(place))[:MOST_ACTIONS]
    offered: list[tuple[Diagnostic, ClientRange, str, bool, list[Replacement]]] = []
    for each, there in near:
        if (fix := each.fix) and not fix.obstacle:
            title = f"{each.code}: {visible(fix.description)}"
            title += "" if fix.is_safe else " (may change what the file means)"
            replaced = _replaced(checked, found, only=each)
            offered.append((each, there, title, fix.is_safe, replaced))
    for each, there in near:
        title = f"{each.code}: ignore on this line"
        offered.append((each, there, title, False, _ignoring(checked, found, each, there)))
    for each, there, title, is_preferred, replaced in offered:
        if replaced:
            yield types.CodeAction(
                title,
                types.CodeActionKind.QuickFix,
                diagnostics=[_diagnostic(checked, each, there, with_related=False)],
                is_preferred=is_preferred or None,
                edit=_workspace_edit(checked, replaced, versioned=versioned),
            )


def _ignoring(
    checked: CheckedSnapshot, found: Examined, finding: Diagnostic, there: ClientRange
) -> list[Replacement]:
    """Return the comment that suppresses a finding at the end of its line, and nothing else."""
    snapshot, inspector = checked.snapshot, checked.inspector
    part = snapshot.part(there.uri)
    assert part is not None  # noqa: S101 - a place is in a part
    assert inspector is not None  # noqa: S101 - the caller has tested it
    end = part.text.offset((there.end[0], _BEHIND_A_LINE), snapshot.encoding)
    comment, text = f"  # adalora: ignore[{finding.code}]", str(part.text)
    changed = snapshot.with_text(there.uri, f"{text[:end]}{comment}{text[end:]}")
    again = inspector.inspect(changed.raw, snapshot.name, was_named=False)
    before = {each.message: each.code for each in found.report.diagnostics}
    left = set() if again is None else {each.message for each in again.report.diagnostics}
    others = {message for message, code in before.items() if code != finding.code}
    is_ignored = finding.message not in left and others <= left <= before.keys()
    return [Replacement(snapshot.stretch(part, end, end), comment)] if is_ignored else []


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


def hover(checked: CheckedSnapshot, uri: str, position: Position) -> types.Hover | None:
    """Return the findings at a position, the field's description and the pages of the rules."""
    if checked.found is None:
        return None
    causes, pages, around = [], {}, None
    written = checked.snapshot.format
    language = "python" if written == "notebook" else written
    for each in checked.found.report.diagnostics:
        place = checked.snapshot.place(each.span)
        if place is not None and place.holds(uri, position):
            what_to_do = f"\n\nWhat to do: {visible(each.hint)}" if each.hint else ""
            causes.append(f"{each.code} {visible(each.message)}{what_to_do}")
            rule = BY_CODE[each.code]
            # With its examples if they are in the document's language.
            pages[each.code] = page(rule, with_examples=rule.language == language)
            around = around or place
    fields = []
    for field, place in _fields(checked):
        if place.holds(uri, position):
            fields.append(about(field))
            around = place
            break
    if around is None:
        return None
    # Not Markdown: a message may quote a hostile document.
    shown = "\n\n---\n\n".join([*causes, *fields, *pages.values()])
    return types.Hover(types.MarkupContent(types.MarkupKind.PlainText, shown), range_of(around))


def about(field: Field) -> str:
    """Return the type, the default, the meaning and the use of a field."""
    lines = [
        f"`{field.name}`: {phrase_of(field.kinds)}; default `{json.dumps(field.default)}`",
        "",
        description_of(field),
        "",
        use_of(field),
    ]
    if field.choices is not None and len(field.choices) > 1:
        meanings = CHOICES.get(field.name, {})
        lines += ["", *(f"- `{choice}`: {meanings.get(choice, '')}" for choice in field.choices)]
    return "\n".join(lines)


def _fields(checked: CheckedSnapshot) -> Iterator[tuple[Field, ClientRange]]:
    """Yield each field that is written, with the places of its key and its value."""
    assert checked.found is not None  # noqa: S101 - the caller has tested it
    document = checked.found.document
    written = [(block, name) for block in checked.found.blocks for name in block.values]
    for block, name in written:
        for at in ("key", "value") if name in block.fields else ():
            place = checked.snapshot.place(document.span_of(block.at(name), at))
            if place is not None:
                yield block.fields[name], place


def lenses(checked: CheckedSnapshot, uri: str) -> list[types.CodeLens]:
    """Return the phases of each configuration of a text that can be trained."""
    found = checked.found
    if found is None:
        return []
    lenses = []
    for block in found.blocks:
        plan = _plan_of(block)
        place = checked.snapshot.place(found.document.span_of(block.path, "key"))
        if plan is not None and place is not None and place.uri == uri:
            phases = [phase for phase in plan.phases() if phase.length]
            title = " | ".join(f"{p.name} {p.first} to {p.last}: {p.what}" for p in phases)
            lenses.append(types.CodeLens(range_of(place), types.Command(title, "")))
    return lenses


def _plan_of(block: Block) -> Plan | None:
    """Return the plan of a block without errors whose values are all known."""
    if (
        block.is_lora
        or block.deferred
        or any((f.severity or f.rule.severity) == "error" for f in findings(block))
    ):
        return None
    try:
        return plan_of(block)
    except ValueError:  # a saved adapter may have no total_step
        return None
