"""Explain the field and the findings at a place, and show the plan of a configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lsprotocol import types

from adalora_core.contract.fields.table import FIELDS, use_of
from adalora_core.contract.fields.value_kinds import phrase_of
from adalora_core.contract.plan.plan import plan_of
from adalora_core.contract.rules import BY_CODE
from adalora_core.contract.rules.engine import findings
from adalora_core.contract.rules.pages import page
from adalora_core.contract.schemas.editor import CHOICES, description_of
from adalora_core.server.findings import range_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.fields.block import Block
    from adalora_core.contract.fields.table import Field
    from adalora_core.contract.plan.plan import Plan
    from adalora_core.server.checked import Checked
    from adalora_core.server.snapshots import Place
    from adalora_core.server.text import Position


def hover(checked: Checked, uri: str, position: Position) -> types.Hover | None:
    """Return the pages of the rules that are broken at a position, and the field's description."""
    if checked.found is None:
        return None
    texts, around = [], None
    codes = set()
    for each in checked.found.report.diagnostics:
        place = checked.snapshot.place(each.span)
        if place is not None and place.holds(uri, position) and each.code not in codes:
            codes.add(each.code)
            texts.append(page(BY_CODE[each.code]))
            around = around or place
    for block in checked.found.blocks:
        for field, place in _fields(checked, block):
            if place.holds(uri, position):
                texts.append(about(field))
                around = place
                break
        else:
            continue
        break
    if around is None:
        return None
    content = types.MarkupContent(types.MarkupKind.Markdown, "\n\n---\n\n".join(texts))
    return types.Hover(content, range_of(around))


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


def _fields(checked: Checked, block: Block) -> Iterator[tuple[Field, Place]]:
    """Yield each field that is written in a block, with the places of its key and its value."""
    assert checked.found is not None  # noqa: S101 - the caller has tested it
    document = checked.found.document
    for name in block.values:
        if name not in FIELDS:
            continue
        for at in ("key", "value"):
            place = checked.snapshot.place(document.span_of(block.at(name), at))
            if place is not None:
                yield FIELDS[name], place


def lenses(checked: Checked, uri: str) -> list[types.CodeLens]:
    """Return the phases of each configuration of a text that can be trained."""
    found = checked.found
    if found is None:
        return []
    lenses = []
    for block in found.blocks:
        plan = _plan_of(block)
        place = checked.snapshot.place(found.document.span_of(block.path, "key"))
        if plan is not None and place is not None and place.uri == uri:
            lenses.append(types.CodeLens(range_of(place), types.Command(_phases(plan), "")))
    return lenses


def _plan_of(block: Block) -> Plan | None:
    """Return the plan of a block without errors whose values are all known."""
    if block.deferred or any((f.severity or f.rule.severity) == "error" for f in findings(block)):
        return None
    try:
        return plan_of(block)
    except ValueError:  # a saved adapter may have no total_step
        return None


def _phases(plan: Plan) -> str:
    shown = [
        f"{phase.name} {phase.first} to {phase.last}: {phase.what}"
        for phase in plan.phases()
        if phase.length
    ]
    return " | ".join(shown)
