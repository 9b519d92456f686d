"""Find the encoding that Python source declares (PEP 263), and its names as Python reads them."""

from __future__ import annotations

import codecs
import re
from unicodedata import normalize

_DECLARATION = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BLANK = re.compile(rb"[ \t\f]*(?:#.*)?")
_READ = re.compile(
    r"ascii|latin|iso8859|iso2022|hz$|cp\d|koi8|mac|shift_jis|euc_|gb|big5|johab|tis_620|hp_roman8"
)
"""Encodings of text; others, such as UTF-7, write plain letters and the ends of lines as escapes,
or may take long."""
_ALWAYS_KNOWN = (
    ("utf-8", re.compile(r"utf-8(?:-|$)")),
    ("iso8859_1", re.compile(r"(?:latin-1|iso-8859-1|iso-latin-1)(?:-|$)")),
)
"""Names that Python knows with any ending, such as `utf-8-unix`."""


class EncodingError(ValueError):
    """Python source declares an encoding in which it is not read; `runs`: Python may accept it."""

    def __init__(self, name: str, message: str, *, runs: bool) -> None:
        super().__init__(f"the file declares the encoding {name[:40]}, {message}: save it as UTF-8")
        self.runs = runs


def declared(raw: bytes) -> str:
    """Return the name of the declared encoding; UTF-8 if there is none.

    Raises:
        EncodingError: no script is read in the declared encoding.
    """
    is_marked = raw.startswith(codecs.BOM_UTF8)
    # Python ends a line at a lone CR too.
    for line in re.split(rb"\r\n|\r|\n", raw.removeprefix(codecs.BOM_UTF8), maxsplit=2)[:2]:
        match = _DECLARATION.match(line)
        if match is not None:
            return _codec(match[1].decode("ascii", "replace"), is_marked=is_marked)
        if _BLANK.fullmatch(line) is None:
            break
    return "utf-8"


def _codec(given: str, *, is_marked: bool) -> str:
    plain = given.lower().replace("_", "-")
    name = next((name for name, form in _ALWAYS_KNOWN if form.match(plain)), None)
    if is_marked and name != "utf-8":
        raise EncodingError(given, "which Python refuses after a byte order mark", runs=False)
    try:
        name = name or codecs.lookup(given).name.replace("-", "_")
    except LookupError:
        raise EncodingError(given, "which Python does not know", runs=False) from None
    if name in {"utf-8", "utf_8"}:
        return "utf-8"
    if not _READ.match(name):
        raise EncodingError(given, "in which no script is read", runs=True)
    return name


def with_plain_letters(code: str) -> str:
    """Return code with the ASCII letters that Python takes others for, such as a bold A."""
    plain = {
        ord(each): letters
        for each in {*code}
        if each > "\x7f" and (letters := normalize("NFKC", each)).isascii()
    }
    return code.translate(plain) if plain else code
