"""Escape text from documents before it is printed: a document may be hostile."""

from __future__ import annotations

import re

# Control characters, bidirectional overrides, line separators and lone surrogates. Services obey
# commands such as ##[group] and ##vso[task] anywhere in a line of a log, and :: at its beginning.
_HOSTILE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
    r"|#(?=#\w*\[)|\A\s*:(?=:)"
)
LONGEST = 500
"""Largest number of characters of a message that are shown."""


def visible(text: str, longest: int | None = LONGEST) -> str:
    r"""Return `text` on one line, with every control character as an escape sequence.

    Example:
        >>> print(visible("a\n\x1b[2J"))
        a\n\x1b[2J
    """
    if longest is not None and len(text) > longest:
        text = text[: longest - 3] + "..."
    return _HOSTILE.sub(_escape, text)


def shortened(path: str, longest: int) -> str:
    """Return a path, escaped and cut in its middle: its begin and its end tell it from others.

    Example:
        >>> shortened("decoder.layers.0.self_attn.q_proj", 20)
        'decoder.l...n.q_proj'
    """
    if len(path) > longest:
        kept = longest - 3
        path = f"{path[: kept - kept // 2]}...{path[len(path) - kept // 2 :]}"
    return visible(path, None)


def _escape(match: re.Match[str]) -> str:
    text = match.group()
    if text[-1] in "#:":
        return f"{text[:-1]}\\x{ord(text[-1]):x}"
    return text.encode("unicode_escape", "backslashreplace").decode("ascii")
