"""Find the encoding that Python source declares (PEP 263), and its names as Python reads them."""

from __future__ import annotations

import codecs
import re
from unicodedata import normalize

_DECLARATION = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BLANK = re.compile(rb"[ \t\f]*(?:#.*)?")
_KNOWN = re.compile(
    r"ascii|latin|iso8859|cp125\d|cp437|cp850|koi8|mac|shift_jis|cp932|euc_|gb|big5|cp949|cp950"
)
"""Encodings of text; others, such as punycode, may take long or do more than decode."""


def declared(raw: bytes) -> str:
    """Return the name of the declared encoding; UTF-8 if there is none, or an unknown one."""
    for line in raw[:1000].split(b"\n")[:2]:
        match = _DECLARATION.match(line)
        if match is not None:
            try:
                name = codecs.lookup(match[1].decode("ascii", "replace")).name.replace("-", "_")
            except LookupError:
                return "utf-8"
            return name if _KNOWN.match(name) else "utf-8"
        if _BLANK.fullmatch(line.rstrip(b"\r")) is None:
            break
    return "utf-8"


_ESCAPE = re.compile(r"\\u(?!00[01])([0-9a-fA-F]{4})")


def with_plain_letters(code: str) -> str:
    """Return code with the ASCII letters that Python takes others for, such as a bold A."""
    plain = {
        ord(each): letters
        for each in {*code}
        if each > "\x7f" and (letters := normalize("NFKC", each)).isascii()
    }
    return code.translate(plain) if plain else code


def searchable(raw: bytes) -> bytes:
    """Return the bytes of a script or notebook with names as Python reads them."""
    if raw.isascii() and b"\\u" not in raw:
        return raw
    text = raw.decode(declared(raw), "replace")
    if "\\u" in text:  # in the strings of a notebook
        text = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return with_plain_letters(text).encode("utf-8", "replace")
