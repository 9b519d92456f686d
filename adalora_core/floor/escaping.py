"""Escape text from documents before it is printed: a document may be hostile."""

from __future__ import annotations

import re
from unicodedata import category

# Services obey commands such as ##[group] and ##vso[task] anywhere in a line of a log, and :: at
# its beginning.
_COMMAND = re.compile(r"#(?=#\w*\[)|\A\s*:(?=:)")
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that Unicode lets a reader ignore; all others of the kind are controls."""
LONGEST = 500
"""Largest number of characters of a message that are shown."""


def visible(text: str, longest: int | None = LONGEST) -> str:
    r"""Return `text` on one line, with every control or invisible character as an escape sequence.

    Example:
        >>> print(visible("a\n\x1b[2J"))
        a\n\x1b[2J
    """
    if longest is not None and len(text) > longest:
        text = text[: longest - 3] + "..."
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_shown, text))
    return _COMMAND.sub(lambda found: f"{found[0][:-1]}\\x{ord(found[0][-1]):x}", text)


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


def _shown(character: str) -> str:
    # Controls, formats, surrogates, private and unassigned ones, line separators; but not blanks.
    is_printable = character.isprintable() or category(character) == "Zs"
    if is_printable and not _IGNORABLE.match(character):
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
