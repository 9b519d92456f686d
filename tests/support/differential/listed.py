"""Read the list of disagreements that stay, and find the entry of one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the list is read without PEFT too
    from differential.judging import Judgement

FILE = Path(__file__).parents[2] / "differential" / "disagreements.json"
LISTED: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))

MOST = 10
"""Limit on the entries: more would be a rule that is wrong."""


def entry_of(found: Judgement) -> dict[str, Any] | None:
    """Return the entry that a disagreement falls under, None if one of its errors is not listed."""
    entries = [_entry_of(found, error) for error in found.errors or [""]]
    return entries[0] if all(entries) else None


def _entry_of(found: Judgement, error: str) -> dict[str, Any] | None:
    outcome = f"{found.outcome.stage} {found.outcome.problem}"
    for entry in LISTED:
        if (
            found.disagreement in entry["kinds"]
            and found.runtime in entry["runtimes"]
            and found.case.kind in entry["files"]
            and (not entry["fields"] or not found.case.fields.isdisjoint(entry["fields"]))
            and re.search(entry["outcome"], outcome)
            and re.search(entry["error"], error)
        ):
            return entry
    return None


def table() -> str:
    """Return the list as a table in Markdown."""
    rows = [
        f"| {each['name']} | {', '.join(f'`{name}`' for name in each['runtimes'])} "
        f"| {', '.join(each['kinds'])} | {each['reason']} |"
        for each in LISTED
    ]
    return "\n".join(["| Name | Runtime | Kind | Reason |", "|---|---|---|---|", *rows])
