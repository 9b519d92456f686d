"""Apply the changes of a fix to a decoded document, before any text is written."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adalora_core.floor.places import Extent, Path


@dataclass(frozen=True, slots=True)
class Put:
    """Replace the value at an existing place.

    Args:
        path: the place, from the document's top.
        value: the new value.
        yaml: the value as YAML text, where the usual form is not wanted.
    """

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
    """Replace a stretch of source code that no path names; the decoded value stays.

    Args:
        extent: the stretch, in the text of the document.
        text: the new code.
    """

    extent: Extent
    text: str


Change = Put | Rename | Insert | Replace


@dataclass(frozen=True, slots=True)
class Remedy:
    """The change that a rule proposes.

    Args:
        description: the remedy as an imperative: "Write it as an integer".
        change: the change to the document; none removes a key.
        is_safe: whether the meaning stays: PEFT reads the same as before, or could not work with
            the old value and only one reading is possible.
    """

    description: str
    change: Change
    is_safe: bool = True


class ConflictError(Exception):
    """A change cannot be made; the message gives the reason."""


def changed(value: Any, changes: Iterable[Change]) -> Any:
    """Return a copy of a decoded document with all changes made.

    A value that several aliases share is shared in the copy too, so it changes everywhere.

    Raises:
        ConflictError: a place does not exist, or a name is taken.
    """
    root = copy.deepcopy(value)
    puts = [change for change in changes if isinstance(change, Put)]
    renames = [change for change in changes if isinstance(change, Rename)]
    for put in puts:
        *above, last = put.path
        _container(root, above, last)[last] = put.value
    for insert in (change for change in changes if isinstance(change, Insert)):
        *above, name = insert.path
        _rebuild(_node(root, above), {}, {name: insert.value})
    # Inner names first: the path of an outer one leads there.
    for rename in sorted(renames, key=lambda change: -len(change.path)):
        *above, last = rename.path
        _rebuild(_container(root, above, last), {last: rename.name}, {})
    return root


def _rebuild(mapping: Any, names: dict[Any, str], before: dict[Any, Any]) -> None:
    """Rename keys of a mapping in place, and put new ones before them."""
    for name in (*names.values(), *before):
        if name in mapping:
            raise ConflictError(f"the key {name!r} exists already")
    entries = before | {names.get(key, key): value for key, value in mapping.items()}
    mapping.clear()
    mapping.update(entries)


def _container(root: Any, above: Iterable[str | int], last: str | int) -> Any:
    node = _node(root, above)
    try:
        node[last]
    except (LookupError, TypeError):
        raise ConflictError(_MOVED) from None
    return node


def _node(root: Any, path: Iterable[str | int]) -> Any:
    node = root
    try:
        for step in path:
            node = node[step]
    except (LookupError, TypeError):
        raise ConflictError(_MOVED) from None
    return node


_MOVED = "another fix has moved the place"


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
