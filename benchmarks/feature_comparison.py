"""Compare PEFT's AdaLoRA with ours by running both: writes docs/peft-comparison.md.

    python benchmarks/feature_comparison.py            # run the probes and write the page
    python benchmarks/feature_comparison.py --check    # run them and compare with the page

Needs the extra `peft`. What a probe asks for is in feature_probes.py; a cell says "yes" if the
probe ran through, else what the library said.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from feature_probes import GROUPS, Probe
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[1] / "docs" / "peft-comparison.md"
LIBRARIES = ("peft", "adalora_core")
LONGEST_MESSAGE = 90


def answer(probe: Probe, library: str) -> str:
    """Run `probe` with `library` and return the cell."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            probe.run(library)
        except Exception as error:  # noqa: BLE001 - any failure is what the cell reports
            message = " ".join(str(error).split()).replace("|", "\\|")
            short = message[:LONGEST_MESSAGE] + ("..." if len(message) > LONGEST_MESSAGE else "")
            return (
                f"no: {type(error).__name__}: {short}" if short else f"no: {type(error).__name__}"
            )
    return "yes"


def page() -> str:
    """Return the whole page."""
    lines = [
        "# PEFT's AdaLoRA and ours, feature by feature",
        "",
        (
            "Written by `python benchmarks/feature_comparison.py`, which runs every row with both "
            f"libraries; PEFT is {version('peft')}. What a row asks for is a function in "
            "`benchmarks/feature_probes.py`."
        ),
        "",
        *_tables(),
    ]
    return "\n".join(lines) + "\n"


def _tables() -> Iterator[str]:
    progress = tqdm(total=sum(map(len, GROUPS.values())), desc="probes", file=sys.stderr)
    for group, probes in GROUPS.items():
        yield from (f"## {group}", "", "| feature | PEFT | adalora_core |", "| --- | --- | --- |")
        for probe in probes:
            cells = [answer(probe, library) for library in LIBRARIES]
            yield f"| {probe.feature} | {cells[0]} | {cells[1]} |"
            progress.update()
        yield ""
    progress.close()


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    text = page().rstrip("\n") + "\n"
    if not check:
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {PAGE}")
        return 0
    if PAGE.read_text(encoding="utf-8") == text:
        print(f"{PAGE.name} is up to date")
        return 0
    print(f"{PAGE.name} is out of date; run: python benchmarks/feature_comparison.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
