"""Parse the arguments of a subcommand; an error shows them escaped."""

from __future__ import annotations

import argparse
from typing import NoReturn

from adalora_core.contract.reports.escaping import visible


class Parser(argparse.ArgumentParser):
    """A parser whose errors are safe to print: names of files may be hostile."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the escaped message, and exit with 2."""
        super().error(visible(message))
