"""Say how the package is installed: from a clone before the first release, from the index after."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
RELEASED = bool(re.search(r"^## \[\d", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE))
"""Whether the changelog has a dated release. All texts follow this; nothing else decides."""
FORMS = Path(__file__).with_suffix(".toml")
"""The texts of each file in both forms. Once a release is out and stays, they can go."""
SOURCE = "adalora-core" if RELEASED else "."
"""What stands before an extra in a command that installs it."""


def pages() -> dict[Path, str]:
    """Return the files with the texts that the changelog asks for.

    Raises:
        SystemExit: a file has neither or both of two texts.
    """
    files = {}
    for name, forms in tomllib.loads(FORMS.read_text("utf-8")).items():
        text = (ROOT / name).read_text("utf-8")
        for form in forms:
            clone, index = form["clone"], form["index"]
            if (clone in text) == (index in text):
                raise SystemExit(
                    f"regenerate: {name} must have {clone!r} or {index!r}, and not both"
                )
            text = text.replace(clone, index) if RELEASED else text.replace(index, clone)
        files[ROOT / name] = text
    return files
