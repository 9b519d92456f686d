"""The formats of configuration files, and the file suffixes that stand for them."""

from __future__ import annotations

import os
from typing import Literal

Format = Literal["json", "yaml", "toml", "python", "notebook"]
CODE: frozenset[Format] = frozenset({"python", "notebook"})
FORMATS: tuple[Format, ...] = ("json", "yaml", "toml", "python", "notebook")
SUFFIXES: dict[str, Format] = {
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".py": "python",
    ".ipynb": "notebook",
}
"""`{suffix: format}`; files with other suffixes are not searched in folders. A dialect such as JSON
with comments needs a reader too."""


def format_of(name: str | os.PathLike[str]) -> Format:
    """Return the format that a file's suffix stands for; JSON where it stands for none."""
    return SUFFIXES.get(os.path.splitext(name)[1].lower(), "json")  # noqa: PTH122 - many files
