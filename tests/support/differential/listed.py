"""Read the list of disagreements that stay, and find the entry of one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from differential.judging import Judgement

FILE = Path(__file__).parents[2] / "differential" / "disagreements.json"
LISTED: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))


def entry_of(found: Judgement) -> dict[str, Any] | None:
    """Return the entry that a disagreement falls under, None if there is none."""
    return next((entry for entry in LISTED if _covers(entry, found)), None)


def _covers(entry: dict[str, Any], found: Judgement) -> bool:
    return (
        entry["kind"] == found.disagreement
        and found.runtime in entry["runtimes"]
        and found.case.kind in entry["files"]
        and not found.case.fields.isdisjoint(entry["fields"])
        and re.search(entry["outcome"], f"{found.outcome.stage} {found.outcome.problem}")
        is not None
        and any(re.search(entry["error"], each) for each in found.errors or [""])
    )
