"""Make docs/peft-comparison.md by running PEFT's AdaLoRA, the bridge and this package.

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
from probe_setting import bridge
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BRIDGE = "adalora_core.peft"
COLUMNS = {"PEFT": "peft", "changed import": BRIDGE, "our own API": "adalora_core"}
LONGEST_MESSAGE = 90


def answer(probe: Probe, library: str) -> str:
    """Run `probe` with `library` and return the cell."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if library == BRIDGE:
                with bridge():
                    probe.run("peft")
            else:
                probe.run(library)
        except Exception as error:  # noqa: BLE001 - the cell reports any failure
            # Without the place of a finding, in a temporary folder.
            message = " ".join(str(error).split(" --> ")[0].split()).replace("|", "\\|")
            short = message[:LONGEST_MESSAGE] + ("..." if len(message) > LONGEST_MESSAGE else "")
            return (
                f"no: {type(error).__name__}: {short}" if short else f"no: {type(error).__name__}"
            )
    return "yes"


def page() -> str:
    """Return the whole page.

    Raises:
        ValueError: PEFT answers a row yes and another column does not, without a reason.
    """
    answers = dict(_answers())
    alone = [
        (probe, reasons) for probe, cells in answers.items() if any(reasons := _lost(probe, cells))
    ]
    counts = [sum(bool(reasons[column]) for _, reasons in alone) for column in range(2)]
    lines = [
        "# PEFT's AdaLoRA and ours, feature by feature",
        "",
        (
            "Written by `python tools/regenerate.py comparison`, which runs every row; PEFT is "
            f"{version('peft')}. Each row is a function named in `tools/feature_probes.py`. "
            "[Coming from PEFT](coming-from-peft.md) explains the columns. An attached model "
            "behaves as with the changed import, if PEFT has not loaded it from files."
        ),
        "",
        (
            f"Of {len(answers)} features, PEFT has {counts[0]} that the changed import does not "
            f"keep, and {counts[1]} that our own API does not have."
        ),
        "",
        *("## What PEFT alone has", ""),
        *("| feature | changed import | our own API |", "| --- | --- | --- |"),
        *(
            f"| {probe.feature} | {' | '.join(each or 'yes' for each in reasons)} |"
            for probe, reasons in alone
        ),
        "",
        *_tables(answers),
    ]
    return "\n".join(lines)


def _lost(probe: Probe, cells: Sequence[str]) -> list[str]:
    """Return, for the columns after PEFT's, why a feature of PEFT is missing; "" if it is not."""
    theirs, *others = cells
    reasons = [
        reason if theirs == "yes" != cell else ""
        for cell, reason in zip(others, (probe.bridged, probe.instead), strict=True)
    ]
    if any(
        theirs == "yes" != cell and not reason for cell, reason in zip(others, reasons, strict=True)
    ):
        raise ValueError(f"PEFT alone has {probe.feature!r}, and the probe has no reason: {others}")
    return reasons


def _answers() -> Iterator[tuple[Probe, list[str]]]:
    probes = [probe for group in GROUPS.values() for probe in group]
    for probe in tqdm(probes, desc="probes", file=sys.stderr):
        yield probe, [answer(probe, library) for library in COLUMNS.values()]


def _tables(answers: Mapping[Probe, Sequence[str]]) -> Iterator[str]:
    for group, probes in GROUPS.items():
        yield from (f"## {group}", "")
        yield from (f"| feature | {' | '.join(COLUMNS)} |", "| --- | --- | --- | --- |")
        for probe in probes:
            yield f"| {probe.feature} | {' | '.join(answers[probe])} |"
        yield ""
