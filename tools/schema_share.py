"""Measure what share of the configurations that the engine refuses the schema refuses too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

from adalora_core.checker.check import check_config
from adalora_core.checker.rules import RULES
from adalora_core.config.fields.table import FIELDS
from adalora_core.config.rules.base import SOUND
from adalora_core.config.schema import config_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, 12.0, 1000, "", "8", "x", [], [1], ["x"], [True], {},
    {"x": 1},
)  # fmt: skip
"""The values that each field gets in turn."""

PATTERN = {
    f"layers.0.{name}.lora_E": [True] * SOUND["target_r"] + [False] * 4
    for name in SOUND["target_modules"]
}


def _examples() -> Iterable[Any]:
    """Return the bad example of every rule."""
    return (rule.bad for rule in RULES if isinstance(rule.bad, dict) and not rule.example_options)


def _public() -> Iterable[Any]:
    """Return the configurations of the corpus, from public repositories."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from contract_corpus import CORPUS, unpacked

    return (unpacked(entry["content"]) for entry in CORPUS)


def _odd() -> Iterable[Any]:
    """Return a sound configuration, and a saved one, with one odd value in each field."""
    saved = SOUND | {"inference_mode": True, "rank_pattern": PATTERN}
    return (base | {name: odd} for base in (SOUND, saved) for name in FIELDS for odd in ODD)


def table() -> str:
    """Return the table of the page: refused by the engine, and of these refused by the schema."""
    validator = jsonschema.Draft202012Validator(config_schema())
    rows = ["| Configurations | refused by the engine | and by the schema | share |"]
    rows.append("|---|---:|---:|---:|")
    total = caught = 0
    for title, configs in (
        ("bad examples of the rules", _examples()),
        ("from public repositories", _public()),
        ("one odd value in one field", _odd()),
    ):
        refused = [config for config in configs if not check_config(config, key="").ok]
        also = sum(not validator.is_valid(config) for config in refused)
        rows.append(f"| {title} | {len(refused)} | {also} | {also / len(refused):.0%} |")
        total, caught = total + len(refused), caught + also
    rows.append(f"| all | {total} | {caught} | {caught / total:.0%} |")
    return "\n".join(rows)
