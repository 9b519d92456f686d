"""Limit the size and the depth of a source, to protect the process that reads it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits that keep any input from hanging the process or exhausting its memory.

    Args:
        file_bytes: size of one document.
        depth: levels of nesting.
        nodes: values in the document; a value that YAML aliases repeat counts once per use.
        regex_length: characters of a regular expression that is compiled.
        tokens: words and signs of Python code.
        diagnostics: findings of one document that are reported.
    """

    file_bytes: int = 4 * 1024 * 1024
    depth: int = 64
    nodes: int = 200_000
    regex_length: int = 4096
    tokens: int = 80_000
    diagnostics: int = 1000

    def bytes_to_read(self, *, has_outputs: bool) -> int:
        """Return how many bytes of a file are read at most; a notebook has outputs besides."""
        return self.file_bytes * (OUTPUT_TIMES + 1 if has_outputs else 1)

    @classmethod
    def parse(cls, settings: list[str], *, most: int | None = None) -> Limits:
        """Read `NAME=NUMBER` settings, as `--limit` takes them, within `most` times the defaults.

        Raises:
            ValueError: an unknown name, or a value that is not a positive integer, or too large.
        """
        names = [field.name.replace("_", "-") for field in dataclasses.fields(cls)]
        changes = {}
        for setting in settings:
            name, _, number = setting.partition("=")
            name = name.strip().replace("_", "-")
            if name not in names or not number.strip().isdecimal() or not int(number):
                raise ValueError(
                    f"a limit should be NAME=NUMBER, with a name of {', '.join(names)} and a "
                    f"positive integer, got {setting!r}"
                )
            field = name.replace("-", "_")
            changes[field] = int(number)
            if most is not None and changes[field] > (largest := most * getattr(cls(), field)):
                raise ValueError(
                    f"a file of settings may raise {name} to {largest} at most, got {setting!r}; "
                    "pass --limit for more"
                )
        return dataclasses.replace(cls(), **changes)


OUTPUT_TIMES = 7
"""How many times the size of a document the outputs of a notebook may have."""
MOST_TIMES = 4
"""How many times its default a limit may be that a file of settings gives."""
MOST_DIGITS = 4300
"""Largest number of digits of an integer, and of characters of any number: Python's own limit for
the conversion of decimal integers. A longer integer of another base could not even be printed."""


def has_too_many_digits(number: int) -> bool:
    """Return whether Python refuses to print an integer."""
    return abs(number) >= _FIRST_TOO_LONG


_FIRST_TOO_LONG: int = 10**MOST_DIGITS
DEFAULT_LIMITS = Limits()
