"""Turn findings into diagnostics, code actions and descriptions, and show the plan of a block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lsprotocol import types

from adalora_core.checker.plan.plan import plan_of
from adalora_core.checker.rules import BY_CODE, findings, page
from adalora_core.commands.server.snapshots import Changes, meet
from adalora_core.config.editor_schema import CHOICES, description_of
from adalora_core.config.fields.table import Field, use_of
from adalora_core.config.fields.value_kinds import phrase_of
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.checker.reports import Examined
    from adalora_core.commands.server.snapshots import CheckedSnapshot
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


Published = tuple[str | None, list[types.PublishDiagnosticsParams]]
"""What is wrong with the settings or the check, and the findings on each text of a document."""


def published(checked: CheckedSnapshot) -> Published:
    """Return the findings on each text of a document, also on a text without one."""
    found: dict[str, list[types.Diagnostic]] = {part.uri: [] for part in checked.snapshot.parts}
    for each, place in _placed(checked):
        found[place.uri].append(_diagnostic(checked, each, place))
    parts = checked.snapshot.parts
    shown = [types.PublishDiagnosticsParams(p.uri, found[p.uri], p.version) for p in parts]
    return checked.problem, shown


def _placed(checked: CheckedSnapshot) -> Iterator[tuple[Diagnostic, types.Location]]:
    for each in () if checked.found is None else checked.found.report.diagnostics:
        if (place := checked.snapshot.place(each.span)) is not None:
            yield each, place


def _diagnostic(
    checked: CheckedSnapshot, finding: Diagnostic, place: types.Location
) -> types.Diagnostic:
    message = visible(finding.message)
    if finding.hint:
        message += f" (hint: {visible(finding.hint)})"
    related = [
        types.DiagnosticRelatedInformation(there, visible(each.message))
        for each in finding.related
        if each.span is not None and (there := checked.snapshot.place(each.span)) is not None
    ]
    return types.Diagnostic(
        place.range,
        message,
        severity=_SEVERITIES[finding.severity],
        code=finding.code,
        source=SOURCE,
        related_information=related or None,
    )


def actions(checked: CheckedSnapshot, params: types.CodeActionParams) -> list[types.CodeAction]:
    """Return for the findings on the lines of a place their fixes and comments that ignore them.

    The fix of all findings comes last.
    """
    found, kinds = checked.found, params.context.only
    if found is None or checked.inspector is None:
        return []
    offered: list[types.CodeAction] = []
    if _wants(kinds, types.CodeActionKind.QuickFix.value):
        place = types.Location(params.text_document.uri, params.range)
        offered += _quick_fixes(checked, found, place)
    if _wants(kinds, FIX_ALL) and (changes := _fixed(checked, found)):
        title, edit = "Apply all safe fixes of adalora", types.WorkspaceEdit(changes)
        offered.append(types.CodeAction(title, FIX_ALL, edit=edit))
    return offered


def _wants(kinds: Sequence[str] | None, kind: str) -> bool:
    """Return whether the client asks for a kind, or for one that it belongs to."""
    asked = None if kinds is None else [getattr(each, "value", each) for each in kinds]
    return asked is None or any(not each or f"{kind}.".startswith(f"{each}.") for each in asked)


def _quick_fixes(
    checked: CheckedSnapshot, found: Examined, place: types.Location
) -> Iterator[types.CodeAction]:
    """Yield the changes on the lines of a place, those at the place itself first, fixes first.

    Nothing is offered if the result is not as promised.
    """
    first = types.Position(place.range.start.line, 0)
    last = types.Position(place.range.end.line, _BEHIND_A_LINE)
    lines = types.Location(place.uri, types.Range(first, last))
    near = [(each, there) for each, there in _placed(checked) if meet(there, lines)]
    near = sorted(near, key=lambda one: not meet(one[1], place))[:MOST_ACTIONS]
    offered: list[tuple[Diagnostic, types.Location, str, bool, Changes]] = []
    for each, there in near:
        if (fix := each.fix) and not fix.obstacle:
            title = f"{each.code}: {visible(fix.description)}"
            title += "" if fix.is_safe else " (may change what the file means)"
            offered.append((each, there, title, fix.is_safe, _fixed(checked, found, only=each)))
    for each, there in near:
        title = f"{each.code}: ignore on this line"
        offered.append((each, there, title, False, _ignoring(checked, found, each, there)))
    for each, there, title, is_preferred, changes in offered:
        if changes:
            yield types.CodeAction(
                title,
                types.CodeActionKind.QuickFix,
                diagnostics=[_diagnostic(checked, each, there)],
                is_preferred=is_preferred or None,
                edit=types.WorkspaceEdit(changes),
            )


def _ignoring(
    checked: CheckedSnapshot, found: Examined, finding: Diagnostic, there: types.Location
) -> Changes:
    """Return the comment that suppresses a finding at the end of its line, and nothing else."""
    snapshot, inspector = checked.snapshot, checked.inspector
    part = snapshot.part(there.uri)
    assert part is not None  # noqa: S101 - a place is in a part
    assert inspector is not None  # noqa: S101 - the caller has tested it
    end = part.offset(types.Position(there.range.end.line, _BEHIND_A_LINE))
    comment, text = f"  # adalora: ignore[{finding.code}]", str(part)
    changed = snapshot.with_text(part, f"{text[:end]}{comment}{text[end:]}")
    again = inspector.inspect(changed.raw, snapshot.name, was_named=False)
    before = {each.message: each.code for each in found.report.diagnostics}
    left = set() if again is None else {each.message for each in again.report.diagnostics}
    others = {message for message, code in before.items() if code != finding.code}
    if finding.message in left or not others <= left <= before.keys():
        return {}
    return {part.uri: [types.TextEdit(part.stretch(end, end).range, comment)]}


def _fixed(checked: CheckedSnapshot, found: Examined, only: Diagnostic | None = None) -> Changes:
    """Return what the safe fixes change, or the fix of one finding."""
    assert checked.inspector is not None  # noqa: S101 - the caller has tested it
    fixed = checked.inspector.fix(
        found, checked.snapshot.name, was_named=False, unsafe=only is not None, only=only
    )
    return checked.snapshot.changes(found.document, fixed.document)


def hover(checked: CheckedSnapshot, params: types.HoverParams) -> types.Hover | None:
    """Return the findings at a position, the field's description and the pages of the rules."""
    at = types.Location(params.text_document.uri, types.Range(params.position, params.position))
    shown, pages, around = [], {}, None
    written = checked.snapshot.format
    language = "python" if written == "notebook" else written
    for each, place in _placed(checked):
        if meet(place, at):
            what_to_do = f"\n\nWhat to do: {visible(each.hint)}" if each.hint else ""
            shown.append(f"{each.code} {visible(each.message)}{what_to_do}")
            rule = BY_CODE[each.code]
            # With its examples if they are in the document's language.
            pages[each.code] = page(rule, with_examples=rule.language == language)
            around = around or place
    for field, place in _fields(checked):
        if meet(place, at):
            shown.append(about(field))
            around = place
            break
    if around is None:
        return None
    # Not Markdown: a message may quote a hostile document.
    text = "\n\n---\n\n".join([*shown, *pages.values()])
    return types.Hover(types.MarkupContent(types.MarkupKind.PlainText, text), around.range)


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


def _fields(checked: CheckedSnapshot) -> Iterator[tuple[Field, types.Location]]:
    """Yield each field that is written, with the places of its key and its value."""
    if (found := checked.found) is None:
        return
    written = [(block, name) for block in found.blocks for name in block.values]
    for block, name in written:
        for at in ("key", "value") if name in block.fields else ():
            place = checked.snapshot.place(found.document.span_of(block.at(name), at))
            if place is not None:
                yield block.fields[name], place


def lenses(checked: CheckedSnapshot, params: types.CodeLensParams) -> list[types.CodeLens]:
    """Return the phases of each configuration of a text that can be trained."""
    if (found := checked.found) is None:
        return []
    lenses = []
    for block in found.blocks:
        place = checked.snapshot.place(found.document.span_of(block.path, "key"))
        if (
            place is None
            or place.uri != params.text_document.uri
            or block.is_lora
            or block.deferred
        ):
            continue
        if any((each.severity or each.rule.severity) == "error" for each in findings(block)):
            continue
        with suppress(ValueError):  # a saved adapter may have no total_step
            phases = [phase for phase in plan_of(block).phases() if phase.length]
            title = " | ".join(f"{p.name} {p.first} to {p.last}: {p.what}" for p in phases)
            lenses.append(types.CodeLens(place.range, types.Command(title, "")))
    return lenses
