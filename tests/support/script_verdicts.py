"""Judge what a script of tests/scripts does through a door of this package by what it does in PEFT.

The page docs/peft-scripts.md is written from the tables here, and tests/scripts holds each run to
them. A value that differs needs a named fault of PEFT; nothing else is allowed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from script_runs import script_names, source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from script_runs import Outcome

CLOSE = 2e-3
CLOSE_WITH_DROPOUT = 2e-2
"""Largest relative difference of two losses; our kernels draw other dropout masks than torch."""

TITLES = {
    "import": "changed import",
    "attach": "`attach`",
}

FAULTS = {
    "evaluation": "the evaluation loss contains the penalty",
    "no task type": "a model without a task type trains without the penalty",
    "no gradient": "a parameter without a gradient raises TypeError",
    "come back": "dropped triplets come back if an optimizer step follows the last call",
    "never called": "nothing calls update_and_allocate, so every triplet is kept",
    "injected": "an adapter that is injected into a model has no allocator",
}
"""Faults of PEFT by the name that `DIFFERENCES` uses."""


@dataclass(frozen=True)
class Difference:
    """Values of an outcome that differ from PEFT's, and the fault that explains them."""

    fault: str
    values: tuple[str, ...]
    ways: tuple[str, ...] = tuple(TITLES)


DIFFERENCES: dict[str, tuple[Difference, ...]] = {
    "dpo_substeps": (Difference("come back", ("kept",)),),
    "glue_step_end": (Difference("no gradient", ("error",)),),
    "hate_detection": (
        Difference("no task type", ("train_losses",)),
        Difference("never called", ("kept",)),
    ),
    "inject_low_level": (Difference("injected", ("kept", "train_losses"), ("attach",)),),
    "lightning_classifier": (Difference("evaluation", ("evaluation_losses",)),),
    "ner_trainer": (
        Difference("evaluation", ("evaluation_losses",)),
        Difference("never called", ("kept",)),
    ),
    "qa_trainer": (
        Difference("evaluation", ("evaluation_losses",)),
        Difference("never called", ("kept",)),
    ),
    "quick_tour": (Difference("never called", ("kept",)),),
    "segmentation_trainer": (Difference("no task type", ("train_losses", "kept")),),
    "sentiment_trainer": (Difference("evaluation", ("evaluation_losses",)),),
    "seq2seq_loop": (Difference("evaluation", ("evaluation_losses",)),),
    "sft_config": (Difference("never called", ("kept", "again")),),
    "unet_add_adapter": (Difference("injected", ("kept",), ("attach",)),),
    "vit_trainer": (Difference("no task type", ("train_losses",)),),
    "whisper_accelerate": (
        Difference("no task type", ("train_losses",)),
        Difference("never called", ("kept",)),
    ),
    "whisper_trainer": (Difference("no task type", ("train_losses",)),),
}
"""The differences of each script; a script that is not here has none."""

RAISES = {
    "glue_step_end": "TypeError: unsupported operand type(s) for *: 'Parameter' and 'NoneType'",
    "sentence_transformer": "ValueError: The version of PEFT you are using is not compatible",
}
"""What ends a script under PEFT; transformers 5.24 asks for a PEFT that is not published."""

REFUSED: dict[tuple[str, str], tuple[str, str]] = {}
"""What is refused on purpose: {(script, way): (reason for the page, begin of the message)}."""

REPORTED: dict[str, tuple[str, ...]] = {
    "dpo_substeps": ("ADA803", "ADA814"),
    "embedding_search": ("ADA811", "ADA814"),
    "glue_step_end": ("ADA803",),
    "image_generation": ("ADA814",),
    "merging": ("ADA807",),
    "mlp_loop": ("ADA814",),
    "quick_tour": ("ADA811", "ADA814"),
    "sft_config": ("ADA814",),
    "sft_model": ("ADA814",),
    "whisper_accelerate": ("ADA811",),
    "whisper_trainer": ("ADA811",),
}
"""The findings of runs that a script causes with our allocator; PEFT reports none."""

REPORTED_THERE: dict[tuple[str, str], tuple[str, ...]] = {
    ("inject_low_level", "attach"): ("ADA814",),
    ("unet_add_adapter", "attach"): ("ADA814",),
}
"""The findings of a script that only one way causes, for {(script, way)}."""


def reported(name: str, way: str) -> list[str]:
    """Return the codes of the findings that a script causes in a way."""
    return list(REPORTED_THERE.get((name, way), REPORTED.get(name, ())))


def differences(name: str, way: str) -> list[Difference]:
    """Return the differences that a script may show in a way."""
    return [each for each in DIFFERENCES.get(name, ()) if way in each.ways]


def differing(name: str, theirs: Outcome, ours: Outcome) -> set[str]:
    """Return the names of the values in which two outcomes of a script differ.

    Args:
        name: of the script; with dropout, losses are compared less closely and ranks by their sum.
        theirs: the outcome under PEFT.
        ours: the outcome of another way.
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
            "`tests/scripts/test_scripts.py` runs it under PEFT and through each of "
            "these doors, and compares losses, ranks, files and what is loaded again."
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
        f"| script | source | PEFT | {' | '.join(TITLES.values())} | reported |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for name in script_names():
        cells = [RAISES[name].partition(":")[0] if name in RAISES else "runs"]
        cells += [_cell(name, way) for way in TITLES]
        codes = sorted({code for way in TITLES for code in reported(name, way)})
        links = ", ".join(f"[{code}](rules/{code}.md)" for code in codes)
        yield f"| `{name}` | {_origin(name)} | {' | '.join(cells)} | {links} |"
    yield ""


def _cell(name: str, way: str) -> str:
    if (name, way) in REFUSED:
        return f"refused: {REFUSED[name, way][0]}"
    faults = sorted({each.fault for each in differences(name, way)})
    return f"better: *{', '.join(faults)}*" if faults else "same"


def _origin(name: str) -> str:
    found = re.search(r"^Source: ([\w.-]+/[\w.-]+),\s(\S+)", source(name), flags=re.MULTILINE)
    assert found, f"{name}: the docstring names no source"
    return f"[{found[1]}](https://github.com/{found[1]}): {found[2].rstrip(',')}"
