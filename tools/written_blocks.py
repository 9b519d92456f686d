"""Replace the written part of a page that people write by hand."""

from __future__ import annotations

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
