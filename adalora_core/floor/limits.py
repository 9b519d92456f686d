"""Limit the size and the depth of a source, to protect the process that reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits on one document, which every reader holds.

    Args:
        file_bytes: size.
        depth: levels of nesting.
        nodes: values in the document; a value that YAML aliases repeat counts once per use.
        diagnostics: findings that are reported.
    """

    file_bytes: int = 4 * 1024 * 1024
    depth: int = 64
    nodes: int = 200_000
    diagnostics: int = 1000

    def bytes_to_read(self, *, has_outputs: bool) -> int:
        """Return how many bytes of a file are read at most; a notebook has outputs besides."""
        return self.file_bytes * (OUTPUT_TIMES + 1 if has_outputs else 1)


OUTPUT_TIMES = 7
"""How many times the size of a document the outputs of a notebook may have."""
MOST_DIGITS = 4300
"""Largest number of digits of an integer, and of characters of any number: Python's own limit for
the conversion of decimal integers. A longer integer of another base could not even be printed."""


def has_too_many_digits(number: int) -> bool:
    """Return whether Python refuses to print an integer."""
    return abs(number) >= _FIRST_TOO_LONG


_FIRST_TOO_LONG: int = 10**MOST_DIGITS
DEFAULT_LIMITS = Limits()
