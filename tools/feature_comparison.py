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
    from collections.abc import Iterator, Mapping, Sequence

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
    """Return the whole page.

    Raises:
        ValueError: a row that PEFT alone answers yes has no reason.
    """
    answers = dict(_answers())
    alone = [probe for probe, cells in answers.items() if _is_of_peft_alone(cells)]
    if unexplained := [probe.feature for probe in alone if not probe.instead]:
        raise ValueError(f"PEFT has, and this package has not: {', '.join(unexplained)}")
    lines = [
        "# PEFT's AdaLoRA and ours, feature by feature",
        "",
        (
            "Written by `python tools/regenerate.py comparison`, which runs every row with both "
            f"libraries; PEFT is {version('peft')}. Each row is a function named in "
            "`tools/feature_probes.py`. The column adalora_core is "
            "[our own API](coming-from-peft.md#our-own-api); a model that PEFT makes, with the "
            "import changed or attached, keeps what PEFT has."
        ),
        "",
        f"Of {len(answers)} rows, PEFT alone answers {len(alone)} with yes; they come first.",
        "",
        *("## What PEFT alone has", ""),
        *("| feature | why, or what to do instead |", "| --- | --- |"),
        *(f"| {probe.feature} | {probe.instead} |" for probe in alone),
        "",
        *_tables(answers),
    ]
    return "\n".join(lines)


def _is_of_peft_alone(cells: Sequence[str]) -> bool:
    return cells[0] == "yes" != cells[1]


def _answers() -> Iterator[tuple[Probe, list[str]]]:
    probes = [probe for group in GROUPS.values() for probe in group]
    for probe in tqdm(probes, desc="probes", file=sys.stderr):
        yield probe, [answer(probe, library) for library in LIBRARIES]


def _tables(answers: Mapping[Probe, Sequence[str]]) -> Iterator[str]:
    for group, probes in GROUPS.items():
        yield from (f"## {group}", "", "| feature | PEFT | adalora_core |", "| --- | --- | --- |")
        for probe in probes:
            theirs, ours = answers[probe]
            yield f"| {probe.feature} | {theirs} | {ours} |"
        yield ""
