"""Apply the changes of a fix to a decoded document, before any text is written."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adalora_core.floor.places import Extent, Path


@dataclass(frozen=True, slots=True)
class Put:
    """Replace the value at an existing place; in YAML the text may be another than usual."""

    path: Path
    value: Any
    yaml: str | None = None


@dataclass(frozen=True, slots=True)
class Rename:
    """Rename an existing key; its value stays."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a key before all others of its mapping."""

    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Replace:
    """Replace a stretch of source code that no path names; the decoded value stays."""

    extent: Extent
    text: str


Change = Put | Rename | Insert | Replace


@dataclass(frozen=True, slots=True)
class Remedy:
    """The change that a rule proposes, described as an imperative: "Write it as an integer".

    No change removes a key. It `is_safe` if the meaning stays: PEFT reads the same as before, or
    could not work with the old value and only one reading is possible.
    """

    description: str
    change: Change
    is_safe: bool = True


class ConflictError(Exception):
    """A change cannot be made; the message gives the reason."""


def changed(value: Any, changes: Iterable[Change]) -> Any:
    """Return a copy of a decoded document with all changes made.

    A value that several aliases share is shared in the copy too, so it changes everywhere.
    """
    root = copy.deepcopy(value)
    puts = [change for change in changes if isinstance(change, Put)]
    renames = [change for change in changes if isinstance(change, Rename)]
    for put in puts:
        _node(root, put.path)  # the place exists
        _node(root, put.path[:-1])[put.path[-1]] = put.value
    for insert in (change for change in changes if isinstance(change, Insert)):
        _rebuild(_node(root, insert.path[:-1]), {}, {insert.path[-1]: insert.value})
    # Inner names first: the path of an outer one leads there.
    for rename in sorted(renames, key=lambda change: -len(change.path)):
        _node(root, rename.path)
        _rebuild(_node(root, rename.path[:-1]), {rename.path[-1]: rename.name}, {})
    return root


def _rebuild(mapping: Any, names: dict[Any, str], before: dict[Any, Any]) -> None:
    """Rename keys of a mapping in place, and put new ones before them."""
    for name in (*names.values(), *before):
        if name in mapping:
            raise ConflictError(f"the key {name!r} exists already")
    entries = before | {names.get(key, key): value for key, value in mapping.items()}
    mapping.clear()
    mapping.update(entries)


def _node(root: Any, path: Iterable[str | int]) -> Any:
    node = root
    try:
        for step in path:
            node = node[step]
    except (LookupError, TypeError):
        raise ConflictError("another fix has moved the place") from None
    return node


def same(one: Any, other: Any) -> bool:
    """Return whether two decoded documents are equal, types included: 12 is not 12.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        # Compare the keys with their types: to Python, True and 1 are the same key.
        if {(type(k), k) for k in one} != {(type(k), k) for k in other}:
            return False
        return all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)
