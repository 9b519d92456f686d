"""Find signs that PyYAML's own scanner refuses and libyaml, which is faster, passes over."""

from __future__ import annotations

import re

_ENDS = r"\n\r\x85\u2028\u2029"
_ODD = re.compile(rf"\t|(?:^|(?<=[{_ENDS}]))\ufeff")
_REFUSED = {
    "\t": "a tab between words, which PyYAML's own scanner refuses",
    "\ufeff": "a byte order mark between words, which PyYAML's own scanner refuses",
}
_HEAD = re.compile(rf"[|>][-+\d]*([#\t])?[^{_ENDS}]*")
_COMMENT = re.compile(rf"#[^{_ENDS}]*")
_PROPERTIES = re.compile(r"(?:[&!]\S*[ \t\r\n]+)*")
MAY_DIFFER = re.compile(rf"{_ODD.pattern}|[|>][-+\d]*#|\?")
"""What a text without such signs does not contain."""


def find_odd_sign(text: str, scalars: list[tuple[int, int, str]]) -> tuple[int, str] | None:
    """Return the place of such a sign, and why it is refused; None if there is none.

    Args:
        text: the text.
        scalars: start, end and style of all scalars, in order. A plain scalar has no style, or a
            question mark in brackets and braces.
    """
    if text.startswith("\ufeff"):  # libyaml does not count it
        return 0, "a second byte order mark"
    pieces, done = [], 0
    for start, end, style in scalars:
        properties = _PROPERTIES.match(text, start, end)
        first = begin = properties.end() if properties else start
        if style not in {"?", ""}:
            begin = max(first, text.find(style, first, end))
        head = _HEAD.match(text, begin, end) if style in {"|", ">"} else None
        if head is not None and head[1]:
            return head.start(1), "the sign of a block needs a blank behind it"
        if head is not None:
            begin = head.end()
        elif style == "?" and (sign := text.find("?", first, end)) >= 0:
            return sign, "a question mark in brackets or braces begins a key for PyYAML"
        elif style in {"?", ""} and (odd := _ODD.search(text, first, end)) is not None:
            return odd.start(), _REFUSED[odd[0]]
        pieces += [text[done:begin], "\n" * (end - begin)]
        done = end
    plain = "".join([*pieces, text[done:]])
    found = _ODD.search(_COMMENT.sub(lambda comment: " " * len(comment[0]), plain))
    return None if found is None else (found.start(), _REFUSED[found[0]])
