"""Parse the arguments of a subcommand; an error shows them escaped."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 80
"""The longest part of a word that is compared: comparing takes quadratic time."""


class _Formatter(argparse.HelpFormatter):
    """A formatter that knows the width of the terminal without shutil, which is slow to import."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns > 0:
        return columns
    try:
        if sys.__stdout__ is not None:
            return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80
    except (ValueError, OSError):  # closed, or not a terminal
        pass
    return 80


def similar(words: Iterable[str], known: Iterable[str]) -> str:
    """Return `; did you mean NAME?` for words that nobody knows; empty if no name is similar."""
    from difflib import get_close_matches  # slow to import

    names = list(known)
    found = [name for word in words for name in get_close_matches(word[:_LONGEST], names, n=1)]
    return f"; did you mean {' '.join(dict.fromkeys(found))}?" if found else ""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are safe to print: names of files may be hostile."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all arguments; the error for an unknown option names a similar one."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            names = [each.partition("=")[0] for each in unknown if each.startswith("--")]
            meant = similar(names, self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options

    def error(self, message: str) -> NoReturn:
        """Print the escaped message and where the options are listed, and exit with 2."""
        help_ = f"'{self.prog} --help' lists the arguments"
        self.exit(2, f"{self.prog}: error: {visible(message)}\n{help_}\n")
