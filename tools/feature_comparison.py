"""Make docs/peft-comparison.md by running PEFT's AdaLoRA and this package.

A cell is "yes" if the probe raised nothing, otherwise the message of the library. The probes are
in feature_probes.py; they need the extra `peft`.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from feature_probes import GROUPS, Probe
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = ("peft", "adalora_core")
LONGEST_MESSAGE = 90


def answer(probe: Probe, library: str) -> str:
    """Run `probe` with `library` and return the cell."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            probe.run(library)
        except Exception as error:  # noqa: BLE001 - the cell reports any failure
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
            "Written by `python tools/regenerate.py comparison`, which runs every row with both "
            f"libraries; PEFT is {version('peft')}. Each row is a function named in "
            "`tools/feature_probes.py`."
        ),
        "",
        *_tables(),
    ]
    return "\n".join(lines)


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
