"""Judge what a script of tests/scripts does with its import changed by what it does in PEFT.

The page docs/peft-scripts.md is written from the tables here, and tests/scripts holds each run to
them. A value that differs needs a named fault of PEFT; nothing else is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from script_runs import Outcome, script_names, source

CLOSE = 2e-3
CLOSE_WITH_DROPOUT = 2e-2
"""Largest relative difference of two losses; our kernels draw other dropout masks than torch."""

FAULTS = {
    "evaluation": "the evaluation loss contains the penalty",
    "no task type": "a model without a task type trains without the penalty",
    "no gradient": "a parameter without a gradient raises TypeError",
    "never called": "nothing calls update_and_allocate, so every triplet is kept",
}
"""Faults of PEFT by the name that `DIFFERENCES` uses."""


DIFFERENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "glue_step_end": {"no gradient": ("error",)},
    "quick_tour": {"never called": ("kept",)},
    "seq2seq_loop": {"evaluation": ("evaluation_losses",)},
    "sft_config": {"never called": ("kept", "again")},
    "whisper_accelerate": {"no task type": ("train_losses",), "never called": ("kept",)},
}
"""The values of each script that differ from PEFT's, by the fault; others have no difference."""

RAISES = {
    "glue_step_end": "TypeError: unsupported operand type(s) for *: 'Parameter' and 'NoneType'"
}
"""What ends a script under PEFT."""

REPORTED: dict[str, tuple[str, ...]] = {
    "glue_step_end": ("ADA803",),
    "quick_tour": ("ADA811", "ADA814"),
    "sft_config": ("ADA814",),
    "whisper_accelerate": ("ADA811",),
}
"""The findings of runs that a script causes with our allocator; PEFT reports none."""


def differing(name: str, theirs: Outcome, ours: Outcome) -> set[str]:
    """Return the names of the values in which two outcomes of a script differ.

    Args:
        name: of the script; with dropout, losses are compared less closely and ranks by their sum.
        theirs: the outcome under PEFT.
        ours: the outcome with the changed import.
    """
    if "error" in theirs or "error" in ours:
        return {"error"} if theirs.get("error") != ours.get("error") else set()
    dropout = bool(re.search(r"lora_dropout=0*\.0*[1-9]", source(name)))
    return {
        key
        for key, value in theirs.items()
        if key != "reported" and not _same(key, value, ours[key], dropout)
    }


def _same(key: str, theirs: Any, ours: Any, dropout: bool) -> bool:
    if key == "kept":
        return sum(theirs.values()) == sum(ours.values()) and (
            dropout or all(abs(rank - ours[name]) <= 1 for name, rank in theirs.items())
        )
    if isinstance(theirs, float):
        return math.isclose(
            theirs, ours, rel_tol=CLOSE_WITH_DROPOUT if dropout else CLOSE, abs_tol=1e-5
        )
    if isinstance(theirs, dict):
        return theirs.keys() == ours.keys() and all(
            _same("", value, ours[name], dropout) for name, value in theirs.items()
        )
    if isinstance(theirs, list) and theirs and isinstance(theirs[0], float):
        return len(theirs) == len(ours) and all(
            _same("", *pair, dropout) for pair in zip(theirs, ours, strict=True)
        )
    if isinstance(theirs, list) and theirs and isinstance(theirs[0], str):
        return theirs == [name for name in ours if "adalora_state" not in name]
    return bool(theirs == ours)


def page() -> str:
    """Return docs/peft-scripts.md."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield from (
        "# Scripts written for PEFT",
        "",
        (
            "Written by `python tools/regenerate.py scripts`. Each row is a script in "
            "`tests/scripts` that makes the calls of a public one, in its order and with its "
            "arguments, on a small model; where the source trains LoRA, the script has AdaLoRA. "
            "`tests/scripts/test_scripts.py` runs it under PEFT and with the import changed, "
            "and compares losses, ranks, files and what is loaded again."
        ),
        "",
        "*Same* means the same as under PEFT. *Better* names a fault of PEFT that is gone:",
        "",
        *(f"- *{name}*: {text}." for name, text in FAULTS.items()),
        "",
        (
            "The last column holds the [findings](runs-that-go-wrong.md) that "
            "our allocator reports about the script and PEFT does not."
        ),
        "",
        "| script | source | PEFT | changed import | reported |",
        "| --- | --- | --- | --- | --- |",
    )
    for name in script_names():
        runs = RAISES[name].partition(":")[0] if name in RAISES else "runs"
        faults = ", ".join(sorted(DIFFERENCES.get(name, ())))
        cell = f"better: *{faults}*" if faults else "same"
        links = ", ".join(REPORTED.get(name, ()))
        yield f"| `{name}` | {_origin(name)} | {runs} | {cell} | {links} |"
    yield ""


def _origin(name: str) -> str:
    found = re.search(r"^Source: ([\w.-]+/[\w.-]+),\s(\S+)", source(name), flags=re.MULTILINE)
    assert found, f"{name}: the docstring names no source"
    return f"[{found[1]}](https://github.com/{found[1]}): {found[2].rstrip(',')}"
