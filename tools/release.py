"""Date the changelog's section of a release, and say everywhere that there is one.

    python tools/release.py 2027-01-15

Nothing is built and nothing is published: docs/release.md has the steps around this one.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tomllib
from typing import TYPE_CHECKING

import regenerate

if TYPE_CHECKING:
    from collections.abc import Sequence

CHANGELOG = regenerate.ROOT / "CHANGELOG.md"
UNRELEASED = "## [Unreleased]\n"


def main(arguments: Sequence[str]) -> int:
    """Date the section, and write again what depends on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("date", type=dt.date.fromisoformat, help="of the release, as 2027-01-15")
    date = parser.parse_args(arguments).date
    settings = (regenerate.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = tomllib.loads(settings)["project"]["version"]
    text = CHANGELOG.read_text(encoding="utf-8")
    if text.count(UNRELEASED) != 1 or f"## [{version}]" in text:
        parser.error(f"CHANGELOG.md must have {UNRELEASED.strip()!r} once, and no [{version}] yet")
    dated = text.replace(UNRELEASED, f"## [{version}] - {date}\n")
    regenerate.write(CHANGELOG, dated)
    print(f"wrote {CHANGELOG.name}: [{version}] - {date}")
    return regenerate.main(["install"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
