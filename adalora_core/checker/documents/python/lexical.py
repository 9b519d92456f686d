"""Scan Python code for strings, comments and brackets, without a tokenizer of one version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adalora_core.floor.places import Extent

_PIECE = re.compile(
    r"""
    (?P<comment>\#[^\r\n]*+)
  | (?P<long>\"{3}|'{3})
  | "(?:[^"\\\r\n]|\\(?:\r\n|.))*+"?
  | '(?:[^'\\\r\n]|\\(?:\r\n|.))*+'?
  | (?P<open>[(\[{]) | (?P<close>[)\]}])
  | (?P<line>\r\n|\r|\n)
  | (?P<joined>\\(?:\r\n|\r|\n))
    """,
    re.VERBOSE | re.DOTALL,
)
_LONG_END = {
    quotes: re.compile(
        rf"(?:[^\\{quotes[0]}]|\\.|{quotes[0]}(?!{quotes[1:]}))*+{quotes}", re.DOTALL
    )
    for quotes in ('"""', "'''")
}
_MAGIC = re.compile(r"[ \t]*[%!?]")
_HELP = re.compile(r"[ \t]*[\w.]+\?{1,2}[ \t]*")
_ASSIGNED_MAGIC = re.compile(r"[ \t]*+[\w ,.\[\]\"']++=[ \t]*+(?=[%!])")
_TIMED = re.compile(r"%time[ \t](?=[ \t]*\S)")
_REST = re.compile(r"(?:[^\r\n\\]|\\(?:\r\n|.)|\\$)*+", re.DOTALL)


def comments(code: str) -> Iterator[Extent]:
    """Yield the extents of all comments, hashes included."""
    at = 0
    while (match := _PIECE.search(code, at)) is not None:
        if match["comment"] is not None:
            yield match.span()
        at = _end(code, match)


def _end(code: str, match: re.Match[str]) -> int:
    """Return where a piece ends; a string in three quotes may have many lines."""
    if match["long"] is None:
        return match.end()
    closed = _LONG_END[match["long"]].match(code, match.end())
    return closed.end() if closed else len(code)


def without_magics(code: str) -> str:
    """Return the code of a cell with the lines that only IPython reads replaced, in their length.

    Such a line begins with `%`, `!` or `?`, or ends with `?`, outside of strings and brackets. It
    becomes the expression `0`, so that a block keeps its body.
    """
    pieces: list[str] = []
    done = at = depth = 0
    is_start = True
    while at < len(code):
        if is_start and depth == 0 and (found := _magic(code, at)) is not None:
            start, end, text = found
            pieces += [code[done:start], text.ljust(end - start)]
            done = at = end
        match = _PIECE.search(code, at)
        if match is None:
            break
        depth += (match["open"] is not None) - (match["close"] is not None)
        depth = max(depth, 0)
        is_start = match["line"] is not None
        at = _end(code, match)
    return "".join([*pieces, code[done:]])


def _magic(code: str, at: int) -> tuple[int, int, str] | None:
    """Return the extent of a magic at the start of a line, and the code in its place."""
    rest = _REST.match(code, at)
    end = rest.end() if rest else at
    if (timed := _TIMED.match(code, at)) is not None:
        return at, timed.end(), "if 1: "  # as long, and the statement behind it is kept
    if _MAGIC.match(code, at, end) or _HELP.fullmatch(code, at, end):
        indent = len(code[at:end]) - len(code[at:end].lstrip(" \t"))
        return at + indent, end, "0"
    if (assigned := _ASSIGNED_MAGIC.match(code, at, end)) is not None:
        return assigned.end(), end, "0"
    return None
