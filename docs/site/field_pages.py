"""Write the pages of the fields: a table of all, and one page each with the rules about it."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING

from adalora_core.checker.rules import RULES
from adalora_core.config.fields.table import (
    ALL_FIELDS,
    FIELDS,
    OWN_FIELDS,
    PEFT_VERSION,
    Treatment,
    use_of,
)
from adalora_core.config.fields.value_kinds import phrase_of

if TYPE_CHECKING:
    from adalora_core.config.fields.table import Field

# Facts of the glossary in numbers, for a reader who arrives by a search.
_SCHEDULE = (
    "An example: with `total_step` 1000, `tinit` 200 and `tfinal` 100, the warm-up is steps 0 to "
    "200, budgeting is steps 201 to 899, and the final phase is steps 900 to 999: it begins at "
    "step `total_step - tfinal`. See [the phases](../glossary.md#phases), [budget and rank]"
    "(../glossary.md#budget-and-rank), and [how to plan a run](../plan.md)."
)
_SCHEDULED = ("tinit", "tfinal", "deltaT", "total_step")


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
    link = f"[`{field.name}`](fields/{field.name}.md){{ #{field.name} }}"
    cells = (link, _value(field), f"`{_default(field)}`", field.summary)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _page(field: Field) -> str:
    rules = [rule for rule in RULES if field.name in rule.inputs]
    facts = [
        f"- Value: {_value(field)}",
        f"- Default: `{_default(field)}`",
        f"- {use_of(field)}",
    ]
    parts = [
        "---\nsearch:\n  boost: 1.5\n---",
        f"# {field.name}",
        field.summary,
        "\n".join(facts),
        *([_SCHEDULE] if field.name in _SCHEDULED else []),
        f"[All fields](../fields.md#{field.name}), and [what they do to a run](../plan.md).",
    ]
    if rules:
        lines = [f"- [{r.code} {r.name}](../rules/{r.code}.md): {r.summary}" for r in rules]
        parts += ["## Rules", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _value(field: Field) -> str:
    value = phrase_of(field.kinds)
    if field.choices:
        value += ": " + ", ".join(f"`{choice}`" for choice in field.choices)
    limits = (("at least", field.least), ("above", field.above), ("below", field.below))
    if bounds := [f"{words} {limit}" for words, limit in limits if limit is not None]:
        value += ", " + " and ".join(bounds)
    return value


def _default(field: Field) -> str:
    is_enum = isinstance(field.default, enum.Enum)
    return json.dumps(field.default.value if is_enum else field.fresh_default())
