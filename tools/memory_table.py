"""Make the table of what training holds in memory from benchmarks/results/memory.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parents[1] / "benchmarks" / "results" / "memory.json"
HELD = {"factors": "factors", "moments": "AdamW's moments", "averages": "averages"}
"""What depends on the adapter alone."""


def read() -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Return the figures, and their rows by what trains, in the order of the settings."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in figures["rows"]:
        by_name.setdefault(row["name"], []).append(row)
    return figures, by_name


def block() -> str:
    """Return the table and what was measured."""
    figures, by_name = read()
    settings = [
        row["dtype"] + f", dropout {row['dropout']:g}" * (row["dropout"] > 0)
        for row in next(iter(by_name.values()))
    ]
    head = ["trained", *HELD.values(), *(f"saved, {each}" for each in settings)]
    head += [f"peak, {settings[0]}", f"peak, {settings[-1]}"]
    setting = f"{figures['matrices']} adapted matrices, {figures['batch']} tokens"
    versions = f"torch {figures['torch']}, PEFT {figures['peft']}"
    lines = [
        f"MB beside the frozen model, MiniLM's shape with {setting}, {versions}:",
        "",
        f"| {' | '.join(head)} |",
        f"|---{'|---:' * (len(head) - 1)}|",
    ]
    for name, rows in by_name.items():
        held = [rows[0][part] for part in HELD] + [row["saved"] for row in rows]
        held += [rows[0]["peak"], rows[-1]["peak"]]
        lines.append(f"| {name} | {' | '.join(f'{each / 1e6:.1f}' for each in held)} |")
    return "\n".join(lines)
