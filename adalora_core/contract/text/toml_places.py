"""Find positions in TOML text that the standard parser has accepted."""

from __future__ import annotations

import re
import tomllib

from adalora_core.contract.text.tree import Place

_BLANK = re.compile(r"[ \t]*")
# Possessive: of a group that could give repetitions back, each one would take memory.
_SPACE = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# A string without an end extends to the end of the text, so that a search reads a text once.
LONG_STRING = r"""(?s:
    \"{3}(?:[^"\\]++|\\.|"{1,2}(?!"))*+(?:"{3,5}|\\?\Z)
    |'{3}(?:[^']++|'{1,2}(?!'))*+(?:'{3,5}|\Z)
)"""
SHORT_STRING = r"""(?s:"(?:[^"\\\n]++|\\.)*+"?|'[^'\n]*+'?)"""
STRING = re.compile(rf"{LONG_STRING}|{SHORT_STRING}", re.VERBOSE)
_SCALAR = re.compile(r"[^,\]}#\r\n]*")

Key = tuple[str, tuple[int, int]]
"""A key and its extent."""


def places(text: str) -> Place:
    """Return the position of every key and value in `text`, which must be valid TOML."""
    return _Scanner(text).document()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> Place:
        top = Place(0, len(self._text))
        table = top
        while True:
            self._skip(_SPACE)
            if self._at >= len(self._text):
                return top
            if self._text.startswith("[", self._at):
                table = self._header(top)
            else:
                self._pair(table)

    def _header(self, top: Place) -> Place:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        keys = self._dotted()
        self._at += 2 if is_array else 1
        *parents, last = keys
        table = self._descend(top, parents)
        if not is_array:
            return self._descend(table, [last])
        name, extent = last
        array = table.inside.get(name)
        if array is None:
            array = self._put(table, last, Place(start, self._at))
        element = Place(start, self._at)
        index = len(array.inside)
        array.inside[index], array.keys[index] = element, extent
        return element

    def _pair(self, table: Place) -> None:
        *parents, last = self._dotted()
        self._at += 1  # the equals sign
        target = self._descend(table, parents)
        self._put(target, last, self._value())

    def _descend(self, table: Place, keys: list[Key]) -> Place:
        """Return the table at `keys`, made if it is new; in an array of tables, the last one."""
        for key in keys:
            known = table.inside.get(key[0])
            if known is None:
                known = self._put(table, key, Place(*key[1]))
            elif isinstance(next(iter(known.inside), None), int):
                known = known.inside[len(known.inside) - 1]
            table = known
        return table

    def _put(self, table: Place, key: Key, place: Place) -> Place:
        name, extent = key
        table.keys[name] = extent
        table.inside[name] = place
        return place

    def _dotted(self) -> list[Key]:
        keys = []
        while True:
            self._skip(_BLANK)
            start = self._at
            if self._text[start] in "\"'":
                self._skip(STRING)
                name = next(iter(tomllib.loads(f"{self._text[start : self._at]} = 0")))
            else:
                self._skip(_BARE)
                name = self._text[start : self._at]
            keys.append((name, (start, self._at)))
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _value(self) -> Place:
        self._skip(_BLANK)
        start = self._at
        first = self._text[start]
        place = Place(start, start)
        if first == "[":
            self._array(place)
        elif first == "{":
            self._inline_table(place)
        elif first in "\"'":
            self._skip(STRING)
        else:
            self._skip(_SCALAR)
            self._at = start + len(self._text[start : self._at].rstrip())
        place.end = self._at
        return place

    def _array(self, place: Place) -> None:
        self._at += 1
        while True:
            self._skip(_SPACE)
            if self._text[self._at] == "]":
                break
            place.inside[len(place.inside)] = self._value()
            self._skip(_SPACE)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _inline_table(self, place: Place) -> None:
        self._at += 1
        while True:
            self._skip(_SPACE)
            if self._text[self._at] == "}":
                break
            self._pair(place)
            self._skip(_SPACE)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
