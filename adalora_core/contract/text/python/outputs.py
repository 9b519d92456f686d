"""Find the outputs of a notebook's cells in its text, to leave them out: most are pictures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adalora_core.contract.text.places import Extent

MOST_TOKENS = 1_000_000
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_LIST = re.compile(r"[ \t\n\r]*:[ \t\n\r]*\[")
_DEPTH_OF_A_CELL = 3


def outputs_in(text: str) -> list[Extent]:
    """Return where the contents of the lists `outputs` are in all cells of a notebook.

    The text need not be JSON. Of one with too many strings and brackets the first ones are found.
    """
    found: list[Extent] = []
    depth, start = 0, None
    for number, token in enumerate(_TOKEN.finditer(text)):
        if number > MOST_TOKENS:
            break
        first = text[token.start()]
        if first in "[{":
            depth += 1
        elif first != '"':
            depth -= 1
            if start is not None and depth == _DEPTH_OF_A_CELL:
                found.append((start, token.start()))
                start = None
        elif depth == _DEPTH_OF_A_CELL and token.group() == '"outputs"':
            begin = _LIST.match(text, token.end())
            start = begin and begin.end()
    return found


def without_outputs(text: str) -> str:
    """Return a text of the same length with blanks in the place of the outputs."""
    parts, at = [], 0
    for start, end in outputs_in(text):
        parts += [text[at:start], " " * (end - start)]
        at = end
    return "".join([*parts, text[at:]])
