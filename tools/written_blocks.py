"""Replace the written parts of a page that people write by hand: blocks and words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = "<!-- written by python tools/regenerate.py {part} -->"
END = "<!-- end of the written part -->"


def with_block(path: Path, part: str, block: str) -> str:
    """Return the text of `path` with `block` between the marks of `part`."""
    mark = BEGIN.format(part=part)
    before, begin, rest = path.read_text(encoding="utf-8").partition(mark)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"regenerate: {path.name} must have the lines {mark!r} and {END!r}")
    return f"{before}{mark}\n{block}\n{END}{after}"


def with_words(text: str, part: str, words: str) -> str:
    """Return `text` with `words` between the marks of `part` within a sentence.

    The marks are comments: `<!-- speed -->0.95 to 1.10<!-- end -->`.
    """
    marked = re.compile(rf"(<!-- {part} -->).*?(<!-- end -->)")
    replaced, found = marked.subn(rf"\g<1>{words}\g<2>", text)
    if not found:
        raise SystemExit(f"regenerate: a page must have the marks <!-- {part} --> and <!-- end -->")
    return replaced
