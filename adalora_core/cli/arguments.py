"""Parse the arguments of a subcommand; an error shows them escaped."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from adalora_core.contract.reports.escaping import visible


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


class Parser(argparse.ArgumentParser):
    """A parser whose errors are safe to print: names of files may be hostile."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the escaped message, and exit with 2."""
        super().error(visible(message))
