"""Write the pages of the fields: a table of all, and one page each with the rules about it."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING

from adalora_core.contract.fields.table import (
    ALL_FIELDS,
    FIELDS,
    OWN_FIELDS,
    PEFT_VERSION,
    Treatment,
)
from adalora_core.contract.rules import RULES

if TYPE_CHECKING:
    from adalora_core.contract.fields.table import Field


def table() -> str:
    """Return the page that lists all fields, by what AdaLoRA does with them."""
    intro = (
        f"The keys of an AdaLoRA configuration, those of PEFT {PEFT_VERSION}, by what AdaLoRA does "
        "with them. Many are inherited from LoRA and do nothing, or worse."
    )
    parts = ["# Fields", intro]
    groups = {
        treatment.value.capitalize(): [f for f in FIELDS.values() if f.treatment is treatment]
        for treatment in Treatment
    }
    groups["Read by the runtime adalora-core alone"] = [*OWN_FIELDS.values()]
    head = ["| Field | Value | Default | What |", "|---|---|---|---|"]
    for title, fields in groups.items():
        rows = [_row(field) for field in fields]
        parts.append(f"## {title}\n\n" + "\n".join([*head, *rows]))
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """Return `{address: page}` of every field; a search for its name finds its page first."""
    return {f"fields/{field.name}.md": _page(field) for field in ALL_FIELDS.values()}


def _row(field: Field) -> str:
    link = f"[`{field.name}`](fields/{field.name}.md)"
    cells = (link, _value(field), f"`{_default(field)}`", field.summary)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _page(field: Field) -> str:
    rules = [rule for rule in RULES if field.name in rule.inputs]
    added = f", since PEFT {field.added}" if field.added else ""
    facts = [
        f"- Value: {_value(field)}",
        f"- Default: `{_default(field)}`",
        f"- With AdaLoRA: {field.treatment.value}{added}",
    ]
    parts = [
        "---\nsearch:\n  boost: 4\n---",
        f"# {field.name}",
        field.summary,
        "\n".join(facts),
        "[All fields](../fields.md), and [what they do to a run](../plan.md).",
    ]
    if rules:
        lines = [f"- [{r.code} {r.name}](../rules/{r.code}.md): {r.summary}" for r in rules]
        parts += ["## Rules", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _value(field: Field) -> str:
    value = " or ".join(kind.phrase for kind in field.kinds)
    if field.choices:
        value += ": " + ", ".join(f"`{choice}`" for choice in field.choices)
    return value


def _default(field: Field) -> str:
    is_enum = isinstance(field.default, enum.Enum)
    return json.dumps(field.default.value if is_enum else field.fresh_default())
