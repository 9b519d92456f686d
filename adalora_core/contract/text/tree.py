"""Positions of a decoded document as a tree beside its values; YAML and TOML build one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from adalora_core.contract.text.places import Extent, Path


@dataclass(slots=True)
class Place:
    """Where a value stands, and the keys and values inside it.

    Args:
        start, end: extent of the value.
        keys: extents of a mapping's keys.
        inside: places of a mapping's values by key, or of a list's by index.
        nodes: values inside and this one, counted as often as aliases repeat them.
        height: levels below this one.
    """

    start: int
    end: int
    keys: dict[object, Extent] = field(default_factory=dict)
    inside: dict[object, Place] = field(default_factory=dict)
    nodes: int = 1
    height: int = 0


class TreeLocator:
    """Finds keys and values in a tree of places."""

    def __init__(self, text: str, top: Place) -> None:
        self._text = text
        self._top = top

    def locate(self, path: Path, at: Literal["key", "value"]) -> Extent | None:
        """Return where the key or value stands; the nearest place if the path leads too far."""
        place, key = self._top, None
        for step in path:
            if step not in place.inside:
                key = None
                break
            key = place.keys.get(step)
            place = place.inside[step]
        if at == "key":
            # What is absent is shown at the document's first character.
            return key or (place.start, min(place.start + 1, len(self._text)))
        # A block in YAML ends where the next line begins: without the blanks before it.
        end = place.start + len(self._text[place.start : place.end].rstrip())
        return place.start, end
