"""Measure how long the playground takes to its first finding, in Chromium on this machine.

    mkdocs build --site-dir SITE
    python benchmarks/bench_playground.py SITE

A cold visit has an empty cache, a warm one is the second of the same reader. Both begin with the
request for the page, whose first example has findings.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from browser import chromium, served
from playground_page import Playground


def visit(page: Any, address: str) -> float:
    """Return the seconds from the request to the first finding."""
    start = time.perf_counter()
    if not Playground(page, address).open().codes:
        raise RuntimeError("the first example has no finding")
    return time.perf_counter() - start


def main() -> int:
    """Measure and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="the built site")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in tqdm(range(arguments.repeats)):
        # A browser of its own: Chromium keeps compiled code for all contexts.
        with chromium() as browser, served(arguments.site) as (address, _):
            reader = browser.new_context()
            for found in seconds.values():
                page = reader.new_page()
                found.append(visit(page, address))
                page.wait_for_load_state("networkidle")
                page.close()
    for kind, found in seconds.items():
        print(f"{kind}: {statistics.median(found):.2f} s ({min(found):.2f} to {max(found):.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
