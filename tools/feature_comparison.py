"""Make docs/peft-comparison.md by running PEFT's AdaLoRA with and without the bridge.

A cell is "yes" if the probe raised nothing, otherwise the message of the library. The probes are
in feature_probes.py; they need the extra `peft`. Faults of PEFT are rows of tests/defects, which
run each with PEFT alone and with the bridge.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from feature_probes import GROUPS, Probe
from probe_setting import bridge
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[1]
BRIDGE = "adalora_core.peft"
COLUMNS = {"PEFT": "peft", "changed import": BRIDGE}
LONGEST_MESSAGE = 90
DEFECTS = {
    "equal ranks train": "allocation TestEqualRanks",
    "an overflow step does not stop pruning": "allocation TestNonFiniteGradient",
    "an adapted module that the forward pass does not use": "allocation TestUnusedModule",
    "ties keep exactly the budget": "allocation TestTies",
    "the scale stays lora_alpha / (init_r + 1e-5) on a float64 base": "allocation TestTrainedScale",
    "stopped and resumed, the run ends at its budget": "checkpoint TestResume",
    "trains, saves and loads a loaded adapter again": "checkpoint TestSecondGeneration",
    "tfinal = 0 ends at the budget": "checkpoint TestNoFinalPhase",
    "an adapter name that is part of a module's path": "checkpoint "
    "TestAdapterNameInsideAModuleName",
    "low-memory load of a pruned adapter": "checkpoint TestLowMemoryLoadOfAPrunedAdapter",
    "labels with a frozen adapter": "inference TestLabelsInInferenceMode",
    "evaluation loss is the task loss": "inference TestEvaluationLoss",
    "float32 adapters on a bfloat16 base come back bit for bit": "inference "
    "TestReloadOnBfloat16Base",
    "saves between two allocations what the model computes": "inference TestMidBudgetSave",
}
"""Faults of PEFT, with the file and class of `tests/defects` that show them."""


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
        ValueError: PEFT answers a row yes and the bridge does not, without a reason; or both
            answer a row yes, which is none of the page.
    """
    answers = dict(_answers())
    if same := [probe.feature for probe, cells in answers.items() if {*cells} == {"yes"}]:
        raise ValueError(f"both have {same}: let a test show it, and delete the probes")
    alone = [(probe, reason) for probe, cells in answers.items() if (reason := _lost(probe, cells))]
    lines = [
        "# PEFT's AdaLoRA and ours, feature by feature",
        "",
        (
            "Written by `python tools/regenerate.py comparison`; PEFT is "
            f"{version('peft')}. Each row is a function named in `tools/feature_probes.py`, which "
            "the command runs, or a class of `tests/defects`. "
            "[Coming from PEFT](coming-from-peft.md) explains the columns. An attached model "
            "behaves as with the changed import, if PEFT has not loaded it from files."
        ),
        "",
        (
            "What works alike is not listed: PEFT's own AdaLoRA tests run with the bridge "
            "(`tests/peft/test_peft_suite.py`), and [public scripts](peft-scripts.md) run through "
            "both. [Our own API](api.md#training) has one adapter of one model, and no more of "
            "PEFT's surface than a loop needs."
        ),
        "",
        f"PEFT has {len(alone)} features that the changed import does not keep.",
        "",
        *("## What PEFT alone has", ""),
        *("| feature | changed import |", "| --- | --- |"),
        *(f"| {probe.feature} | {reason} |" for probe, reason in alone),
        "",
        *("## What PEFT fails on", ""),
        *("| feature | PEFT | changed import |", "| --- | --- | --- |"),
        *(f"| {feature} | no: {_shown(place)} | yes |" for feature, place in DEFECTS.items()),
        "",
        *_tables(answers),
    ]
    return "\n".join(lines)


def _shown(place: str) -> str:
    """Return a link to the tests of a fault.

    Raises:
        ValueError: there is no such class.
    """
    file, _, name = place.partition(" ")
    path = f"tests/defects/test_{file}_defects.py"
    if f"class {name}:" not in (ROOT / path).read_text(encoding="utf-8"):
        raise ValueError(f"{path}: no class {name}")
    return f"[{name}](../{path})"


def _lost(probe: Probe, cells: Sequence[str]) -> str:
    """Return why the changed import lacks a feature of PEFT; "" if it does not."""
    theirs, ours = cells
    if not theirs == "yes" != ours:
        return ""
    if not probe.bridged:
        raise ValueError(f"PEFT alone has {probe.feature!r}, and the probe has no reason: {ours}")
    return probe.bridged


def _answers() -> Iterator[tuple[Probe, list[str]]]:
    probes = [probe for group in GROUPS.values() for probe in group]
    for probe in tqdm(probes, desc="probes", file=sys.stderr):
        yield probe, [answer(probe, library) for library in COLUMNS.values()]


def _tables(answers: Mapping[Probe, Sequence[str]]) -> Iterator[str]:
    for group, probes in GROUPS.items():
        yield from (f"## {group}", "")
        yield from (f"| feature | {' | '.join(COLUMNS)} |", "| --- | --- | --- |")
        for probe in probes:
            yield f"| {probe.feature} | {' | '.join(answers[probe])} |"
        yield ""
