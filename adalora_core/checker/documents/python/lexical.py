"""Read Python source before its syntax: encoding, letters, strings, comments and brackets."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from tokenize import detect_encoding
from typing import TYPE_CHECKING
from unicodedata import normalize

if TYPE_CHECKING:
    from adalora_core.floor.places import Extent

_LINE_END = re.compile(r"\r\n|\r|\n")
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


_READ = re.compile(
    r"ascii|latin|iso8859|iso2022|hz$|cp\d|koi8|mac|shift_jis|euc_|gb|big5|johab|tis_620|hp_roman8"
)
"""Encodings of text; others, such as UTF-7, write plain letters and the ends of lines as escapes,
or may take long."""


class EncodingError(ValueError):
    """Python source declares an encoding in which it is not read; `runs`: Python may accept it."""

    def __init__(self, reason: str, *, runs: bool) -> None:
        super().__init__(f"the file declares the encoding {reason}: save it as UTF-8")
        self.runs = runs


def declared(raw: bytes) -> str:
    """Return the name of the declared encoding; UTF-8 if there is none.

    Raises:
        EncodingError: no script is read in the declared encoding.
    """
    # Python ends a line at a lone CR too, and takes any bytes before the declaration.
    texts = (line.decode("utf-8", "replace") for line in re.split(rb"\r\n|\r|\n", raw, maxsplit=2))
    lines = iter([f"{text}\n".encode() for text in texts][:2])
    try:
        name, _ = detect_encoding(lambda: next(lines, b""))
    except SyntaxError as error:
        raise EncodingError(f"wrongly ({str(error)[:60]})", runs=False) from None
    codec = codecs.lookup(name).name.replace("-", "_")
    if codec.startswith("utf_8"):
        return "utf-8"
    if not _READ.match(codec):
        raise EncodingError(f"{name[:40]}, in which no script is read", runs=True)
    return codec


_OTHER_LETTER = re.compile(r"[^\x00-\x7f]")


def with_plain_letters(code: str) -> str:
    """Return code with the ASCII letters that Python takes others for, such as a bold A."""
    plain = {
        ord(each): letters
        for each in {*_OTHER_LETTER.findall(code)}
        if (letters := normalize("NFKC", each)).isascii()
    }
    return code.translate(plain) if plain else code


def line_starts(code: str) -> list[int]:
    """Return the offset of each line of code."""
    return [0, *(match.end() for match in _LINE_END.finditer(code))]
