"""Find the encoding that Python source declares in its first two lines (PEP 263)."""

from __future__ import annotations

import codecs
import re

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
