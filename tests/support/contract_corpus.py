"""Configurations from public repositories, as `tests/contract/corpus/` holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CORPUS = json.loads(
    (Path(__file__).parents[1] / "contract" / "corpus" / "configurations.json").read_text("utf-8")
)
BY_NAME = {entry["name"]: entry for entry in CORPUS}


def unpacked(node: Any) -> Any:
    """Turn the strings of 0 and 1 back into lists of booleans."""
    if isinstance(node, dict):
        return {
            key: {name: [bit == "1" for bit in bits] for name, bits in value.items()}
            if key == "rank_pattern" and value
            else unpacked(value)
            for key, value in node.items()
        }
    return node


def write_entry(entry: dict[str, Any], folder: Path) -> Path:
    """Write one configuration as the file that it was found in."""
    content = unpacked(entry["content"])
    if entry["kind"] == "kwargs":
        content = {"peft_type": "ADALORA", **content}
    path = folder / f"{entry['name']}.{entry['format']}"
    text = json.dumps(content) if entry["format"] == "json" else yaml.safe_dump(content)
    path.write_text(text, encoding="utf-8")
    return path
