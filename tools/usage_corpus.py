"""Print how many faults of scripts `adalora check` finds, and how many it reports wrongly.

Each folder holds files and `verdicts.json`, as tests/support/usage_corpus.py describes them.

Run it with: python tools/usage_corpus.py tests/usage/corpus_strangers tests/usage/corpus_later
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from usage_corpus import compare

if TYPE_CHECKING:
    from usage_corpus import Comparison


def main() -> None:
    """Print the figures of each folder, with what was missed and what was reported wrongly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--figures-only", action="store_true", help="do not name the files")
    options = parser.parse_args()
    for folder in options.folders:
        result = compare(folder)
        faults = len(result.found) + len(result.missed)
        print(f"{folder}: {result.files} files")
        print(f"  faults found: {len(result.found)} of {faults} ({result.share:.0%})")
        print(f"  false alarms: {len(result.alarms)}")
        if not options.figures_only:
            _print_differences(result)


def _print_differences(result: Comparison) -> None:
    for title, entries in (("missed", result.missed), ("alarm", result.alarms)):
        for name, (code, cell, line) in entries:
            where = f"cell {cell}, line {line}" if cell is not None else f"line {line}"
            print(f"    {title}: {name}, {where}: {code}")


if __name__ == "__main__":
    main()
