"""From Python's richer values to what JSON has."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

_MODULE_LISTS = frozenset({"target_modules", "exclude_modules"})
"""PEFT holds them as sets: their order means nothing, so they are stored sorted."""


def plain(value: Any, name: str = "") -> Any:
    """Turn Python's richer values into what JSON has: enum members, tuples, sets, mappings."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        entries = [plain(entry) for entry in value]
    elif isinstance(value, (set, frozenset)):
        entries = sorted((plain(entry) for entry in value), key=str)
    else:
        return value
    if name in _MODULE_LISTS and all(isinstance(entry, str) for entry in entries):
        return sorted(set(entries))
    return entries
