"""Hold the positions of a YAML or TOML document as a tree beside its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from adalora_core.floor.places import content_end

if TYPE_CHECKING:
    from adalora_core.floor.places import Extent, Path


@dataclass(slots=True)
class Place:
    """The position of a value, and those of the keys and values inside it.

    Args:
        start, end: extent of the value.
        keys: extents of a mapping's keys.
        inside: places of a mapping's values by key, or of a list's by index.
        nodes: this value and those inside, counted as often as aliases repeat them.
        height: levels of nesting below this value.
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
        """Return the extent of the key or value, or of its nearest parent if it does not exist."""
        place, key = self._top, None
        for step in path:
            if step not in place.inside:
                key = None
                break
            key = place.keys.get(step)
            place = place.inside[step]
        if at == "key":
            # An absent key is marked at the first character of its nearest parent.
            return key or (place.start, min(place.start + 1, len(self._text)))
        # A YAML block ends where the next line begins; leave out the blanks before that line.
        place.end = content_end(self._text, place.start, place.end)
        return place.start, place.end
