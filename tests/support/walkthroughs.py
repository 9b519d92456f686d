"""Pages of the documentation whose examples continue each other: run from top to bottom."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adalora_core.commands.cli import main

DOCS = Path(__file__).parents[2] / "docs"
WALKTHROUGHS = [
    DOCS / f"{name}.md"
    for name in (
        "start-here", "checking", "training", "training-reference", "runs-that-go-wrong",
        "serving", "saved-lora", "trainers",
    )
]  # fmt: skip
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w-]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """A block of a page, and the block `text` right below it."""

    language: str
    content: str
    line: int
    output: str | None


@dataclass(frozen=True)
class Shown:
    """What the page promises that a block prints, and what it printed."""

    line: int
    promised: str
    printed: str


def blocks_of(page: Path) -> Iterator[Block]:
    """Return the blocks of code of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = list(FENCED.finditer(text))
    for block, following in itertools.zip_longest(blocks, blocks[1:]):
        adjacent = following is not None and not text[block.end() : following.start()].strip()
        output = following[2] if adjacent and following[1] == "text" else None
        yield Block(block[1], block[2], text.count("\n", 0, block.start()) + 1, output)


def run_page(page: Path) -> Iterator[Shown]:
    """Run the page in the working directory.

    A block of YAML, TOML or Python that starts with a comment with a file's name is written to that
    file. Other Python runs with what the blocks before it defined, and a block `text` right below
    holds what it prints. Each line `$ adalora ...` of a block `console` is run; `> FILE` at
    its end writes that file.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        name = FILE_NAME.match(block.content)
        if name and block.language in {"yaml", "toml", "python"}:
            Path(name[1]).write_text(block.content, encoding="utf-8")
        elif block.language == "python":
            printed = printed_by(block.content, f"{page.name}:{block.line}", names)
            yield Shown(block.line, block.output or "", printed)
        elif block.language == "console":
            commands = [line for line in block.content.splitlines() if line.startswith("$ ")]
            yield Shown(block.line, block.content, "".join(map(_session, commands)))


def _session(command: str) -> str:
    program, *arguments = shlex.split(command.removeprefix("$ "))
    assert program == "adalora", command
    target = Path(arguments[-1]) if arguments[-2:-1] == [">"] else None
    arguments = arguments[:-2] if target else arguments
    written = io.BytesIO()  # a report may be written as bytes
    out = io.TextIOWrapper(written, encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        main(arguments)
    if target:
        target.write_bytes(written.getvalue())
    return f"{command}\n{'' if target else written.getvalue().decode()}"


def printed_by(code: str, place: str, names: dict[str, Any]) -> str:
    """Run `code` of a page with `names`, which it may change, and return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, place, "exec"), names)  # noqa: S102 - the page is the program
    return out.getvalue()
