"""Describe what is under the pointer: findings and fields; and show the plan above a block."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lsprotocol import types

from adalora_core.checker.plan.plan import Plan, plan_of
from adalora_core.checker.rules import BY_CODE, findings
from adalora_core.checker.rules.pages import page
from adalora_core.commands.server.findings import range_of
from adalora_core.config.fields.table import Field, use_of
from adalora_core.config.fields.value_kinds import phrase_of
from adalora_core.config.schemas.editor import CHOICES, description_of
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.commands.server.snapshots import CheckedSnapshot, ClientRange
    from adalora_core.commands.server.text import Position
    from adalora_core.config.fields.block import Block

_CODE_OR_MARK = re.compile(
    r"(?P<code>(?<!`)`(?!`)[^`]+(?<!`)`(?!`))"
    r"|[\\`\[\]<>~&]|(?<!\s)\*|\*(?!\s)|(?<![^\W_])_|_(?![^\W_])"  # a_b and a * b mark nothing
)


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
            cause = f"**{each.code}** {_escaped(each.message)}"
            what_to_do = f"\n\n**What to do:** {_escaped(each.hint)}" if each.hint else ""
            causes.append(cause + what_to_do)
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
    content = types.MarkupContent(
        types.MarkupKind.Markdown, "\n\n---\n\n".join([*causes, *fields, *pages.values()])
    )
    return types.Hover(content, range_of(around))


def _escaped(text: str) -> str:
    """Return a text, which may quote a hostile document, as Markdown with nothing but code."""
    return _CODE_OR_MARK.sub(
        lambda found: found[0] if found["code"] else f"\\{found[0]}", visible(text)
    )


def about(field: Field) -> str:
    """Return the type, the default, the meaning and the use of a field, as Markdown."""
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
