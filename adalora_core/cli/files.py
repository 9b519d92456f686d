"""List the files that the arguments of `adalora check` name."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.contract.pipeline.selection import WILDCARDS, fits
from adalora_core.contract.text.formats import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Target:
    """A file to check.

    Args:
        name: the path for the report; `-` for standard input.
        was_named: whether an argument is this very file, which must then hold a configuration.
    """

    name: str
    was_named: bool


def targets(arguments: Sequence[str], exclude: Sequence[str]) -> Iterator[Target]:
    """Yield the files of all arguments in a fixed order, each once.

    A folder means the JSON, YAML and TOML files below it, without hidden folders. A pattern means
    the files that it matches; `**` matches folders of any depth. A name that does not exist is
    yielded too, so that the reader reports the missing file.
    """
    seen = set()
    for argument in arguments:
        for target in _expand(argument):
            if target.name in seen or _is_excluded(target.name, exclude):
                continue
            seen.add(target.name)
            yield target


def _expand(argument: str) -> Iterator[Target]:
    if argument == STDIN:
        yield Target(STDIN, was_named=True)
    elif os.path.isdir(argument):  # noqa: PTH112 - faster, for long lists of files
        yield from _below(argument)
    elif WILDCARDS.isdisjoint(argument) or Path(argument).exists():
        yield Target(argument, was_named=True)
    else:
        for name in sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207 - keeps the spelling
            if Path(name).is_file():
                yield Target(name, was_named=False)


def _below(folder: str) -> Iterator[Target]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield Target(str(path), was_named=False)


def _is_excluded(name: str, exclude: Sequence[str]) -> bool:
    return any(fits(name, pattern) for pattern in exclude)
