"""Turn Python's and NumPy's richer values into JSON's."""

from __future__ import annotations

import enum
from collections.abc import Mapping, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any

from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.table import FIELDS

_MODULE_LISTS = frozenset({"target_modules", "exclude_modules"})
"""Fields that PEFT holds as sets: their order has no meaning, so they are stored sorted."""


def plain(value: Any, name: str = "") -> Any:
    """Turn enum members, collections of any kind and arrays of NumPy into the values of JSON.

    Example:
        >>> plain({"q": 1, "v": 2}.keys())
        ['q', 'v']
    """
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "shape") and hasattr(value, "tolist"):
        value = value.tolist()  # of NumPy or torch: neither is imported here
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, ValuesView)):
        entries = [plain(entry) for entry in value]
    elif isinstance(value, AbstractSet):
        entries = sorted((plain(entry) for entry in value), key=str)
    else:
        return value
    if name in _MODULE_LISTS and all(isinstance(entry, str) for entry in entries):
        return sorted(set(entries))
    return entries


def exact(value: Any, name: str) -> Any:
    """Return `plain(value, name)`, and an integer for a float like 8.0 where one is expected.

    Example:
        >>> exact(8.0, "init_r"), exact(0.0, "lora_dropout")
        (8, 0.0)
    """
    value = plain(value, name)
    field = FIELDS.get(name)
    if isinstance(value, float) and field is not None and kinds.INTEGER in field.kinds:
        return int(value) if value.is_integer() else value
    return value
