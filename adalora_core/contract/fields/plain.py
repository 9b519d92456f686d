"""Turn Python's richer values into JSON's."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

_MODULE_LISTS = frozenset({"target_modules", "exclude_modules"})
"""Fields that PEFT holds as sets: their order has no meaning, so they are stored sorted."""


def plain(value: Any, name: str = "") -> Any:
    """Turn enum members, tuples, sets and mappings into the values that JSON has."""
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
