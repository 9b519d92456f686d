"""Everything that a document holds may be hostile: what is echoed is made visible first."""

from __future__ import annotations

import re

# Control characters, bidirectional overrides, line separators and lone surrogates.
_HOSTILE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
LONGEST = 500
"""Characters of one message that are shown."""


def visible(text: str, longest: int | None = LONGEST) -> str:
    r"""Return `text` on one line, with every character that a terminal would obey written out.

    Example:
        >>> print(visible("a\n\x1b[2J"))
        a\n\x1b[2J
    """
    if longest is not None and len(text) > longest:
        text = text[: longest - 3] + "..."
    return _HOSTILE.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape", "backslashreplace").decode("ascii")
