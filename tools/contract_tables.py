"""Write the tables of tools and of mistakes in training runs that pages of docs hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adalora_core.config.fields.tools import Tool
    from adalora_core.config.rules.base import Rule


def mistakes(rules: Sequence[Rule]) -> str:
    """Return the table of mistakes in training runs that `docs/runs-that-go-wrong.md` holds."""
    rows = [f"| {rule.code} {rule.severity} | {rule.summary} | {rule.hint} |" for rule in rules]
    head = ("| Code | What you see | What to do |", "|---|---|---|")
    return "\n".join((*head, *rows))


def tools(known: Sequence[Tool]) -> str:
    """Return the table of tools that `docs/contract/read.md` holds."""
    rows = [
        f"| {tool.name} | {_marks(tool)} | {_listed(tool.keys)} | {_listed(tool.defaults)} "
        f"| {tool.total_step} | {tool.remark or f'served by `{tool.served_by}`'} |"
        for tool in known
    ]
    columns = ("Tool", "Known by", "Keys", "Its own defaults", "`total_step`", "Remark")
    return "\n".join((f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *rows))


def _marks(tool: Tool) -> str:
    marks = " or ".join(f"`{marker}: adalora`" for marker in tool.markers)
    if tool.under is not None:
        marks += f" under `{tool.under}`"
    if tool.section is not None:
        marks += f" beside the section `{tool.section}`"
    if tool.only_with is not None:
        marks += " with `{}: {}`".format(*tool.only_with)
    if tool.beside:
        marks += f" beside {' or '.join(f'`{key}`' for key in sorted(tool.beside))}"
    if tool.listed_in is not None:
        marks += f" with `{tool.served_by}` in `{tool.listed_in}`"
    return marks


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}`: {value}" for key, value in values.items())
