"""Check a document in a worker process, and turn what is found into answers of the protocol.

The settings are those that `adalora check` would take: the command is taken to run in the folder
that the editor has open, or else in that of the file.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lsprotocol import types

from adalora_core.checker.pipeline.suppression import fits
from adalora_core.checker.plan.plan import plan_of
from adalora_core.checker.rules import BY_CODE, findings, page
from adalora_core.commands.cli.check import options_in
from adalora_core.commands.cli.check_job import inspector_of
from adalora_core.commands.cli.console import in_one_line
from adalora_core.commands.cli.settings import SearchExclusions, Settings, project_settings
from adalora_core.commands.server.snapshots import Changes, CheckedSnapshot, Snapshot, meet
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.config.editor_schema import CHOICES, description_of
from adalora_core.config.fields.table import Field, use_of
from adalora_core.config.fields.value_kinds import phrase_of
from adalora_core.config.findings import SEVERITIES
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import is_inside
from adalora_core.floor.worker import OUT_OF_MEMORY, Channel, limit_this_process

if TYPE_CHECKING:
    from argparse import Namespace

    from adalora_core.checker.pipeline.inspection import Inspector
    from adalora_core.checker.reports import Examined
    from adalora_core.config.findings import Diagnostic

_LOG = logging.getLogger(__name__)
SOURCE = "adalora"
FIX_ALL = "source.fixAll.adalora"
ACTION_KINDS = (types.CodeActionKind.QuickFix, types.CodeActionKind.SourceFixAll)
MOST_ACTIONS = 20
"""The most findings whose changes are tried for one request; each is made and read again."""
_BEHIND_A_LINE = 1 << 30
"""A column beyond the end of every line, which stands for its end."""


def check(snapshot: Snapshot, folders: Sequence[Path]) -> CheckedSnapshot:
    """Check a document; `folders` are those that the editor has open.

    A fault of the checker is a problem of the result.
    """
    path = snapshot.path
    above = [each for each in folders if path is None or path.is_relative_to(each)]
    if path is None:
        top = next(iter(above), None)
    else:
        top = max(above, key=lambda folder: len(folder.parts), default=path.parent)
    try:
        options, inspector, problem = _project(top)
        if path is not None and top is not None and _leaves_out(top, options, path):
            return CheckedSnapshot(snapshot, problem=problem)
        found = inspector.inspect(snapshot.raw, snapshot.name, was_named=False)
        return CheckedSnapshot(snapshot, inspector, found, problem)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the server lives on
        _LOG.exception("a check failed")
        problem = (
            f"{visible(snapshot.name)} is not checked, by a fault of adalora-core: "
            f"{visible(repr(error))}; please report it with the file, the log of the "
            "language server and the output of `adalora env`"
        )
        return CheckedSnapshot(snapshot, problem=problem)


def _project(top: Path | None) -> tuple[Namespace, Inspector, str | None]:
    """Return what checks the documents of a folder, and why its settings are not used."""
    try:
        settings = Settings() if top is None else project_settings(top)
        options = options_in(settings)
        return options, inspector_of(options), settings.problem
    except (OSError, ValueError) as error:
        options = options_in(Settings())
        problem = f"{visible(in_one_line(error))}; the settings of the project are not used"
        return options, inspector_of(options), problem


def _leaves_out(top: Path, options: Namespace, path: Path) -> bool:
    """Return whether a search of a folder passes over a file in it."""
    if any(fits(str(path), pattern) for pattern in options.exclude):
        return True
    *folders, name = path.relative_to(top).parts
    if ".git" in folders or not is_inside(path, top):
        return True
    exclusions = SearchExclusions(all_files=options.all_files)
    parent = str(top)
    for folder in folders:
        if not exclusions.kept(parent, [folder], "folder"):
            return True
        parent = os.path.join(parent, folder)  # noqa: PTH118 - as the search does
    return not exclusions.kept(parent, [name], "file")


def work(reading: int, writing: int) -> None:
    """Answer the requests of a server until there are no more.

    The last checked document is kept: most requests are about the one in which somebody types.
    """
    # A stray print must not reach the client, and its messages are the server's.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    channel, last = Channel(reading, writing), -1
    while (frame := channel.receive()) is not None:
        folders, state, snapshot, find, given = pickle.loads(frame)  # noqa: S301
        limit_this_process(OF_A_CHECK)
        try:
            if state != last:
                last, checked = state, check(snapshot, folders)
            channel.send(pickle.dumps(find(checked, *given)))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)


Published = tuple[str | None, list[types.PublishDiagnosticsParams]]
"""What is wrong with the settings or the check, and the findings on each text of a document."""


def published(checked: CheckedSnapshot) -> Published:
    """Return the findings on each text of a document, also on a text without one."""
    found: dict[str, list[types.Diagnostic]] = {part.uri: [] for part in checked.snapshot.parts}
    for each, place in _placed(checked):
        found[place.uri].append(_diagnostic(checked, each, place))
    parts = checked.snapshot.parts
    return checked.problem, [
        types.PublishDiagnosticsParams(part.uri, found[part.uri], part.version) for part in parts
    ]


def _placed(checked: CheckedSnapshot) -> list[tuple[Diagnostic, types.Location]]:
    found = () if checked.found is None else checked.found.report.diagnostics
    return [(each, checked.snapshot.place(each.span)) for each in found]


def _diagnostic(
    checked: CheckedSnapshot, finding: Diagnostic, place: types.Location
) -> types.Diagnostic:
    message = visible(finding.message)
    if finding.hint:
        message += f" (hint: {visible(finding.hint)})"
    related = [
        types.DiagnosticRelatedInformation(checked.snapshot.place(each.span), visible(each.message))
        for each in finding.related
        if each.span is not None
    ]
    return types.Diagnostic(
        place.range,
        message,
        severity=types.DiagnosticSeverity(1 + SEVERITIES.index(finding.severity)),
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
            span = found.document.span_of(block.at(name), at)
            yield block.fields[name], checked.snapshot.place(span)


def lenses(checked: CheckedSnapshot, params: types.CodeLensParams) -> list[types.CodeLens]:
    """Return the phases of each configuration of a text that can be trained."""
    if (found := checked.found) is None:
        return []
    lenses = []
    for block in found.blocks:
        place = checked.snapshot.place(found.document.span_of(block.path, "key"))
        if place.uri != params.text_document.uri or block.is_lora or block.deferred:
            continue
        if any((each.severity or each.rule.severity) == "error" for each in findings(block)):
            continue
        with suppress(ValueError):  # a saved adapter may have no total_step
            phases = [phase for phase in plan_of(block).phases() if phase.length]
            title = " | ".join(f"{p.name} {p.first} to {p.last}: {p.what}" for p in phases)
            lenses.append(types.CodeLens(place.range, types.Command(title, "")))
    return lenses
