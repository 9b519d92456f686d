"""Name the runs of the study and what each of them gives, without training anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runs
from results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
SECOND = HERE.parent / "rank_matters" / "results.jsonl"
WORDS = "words"
"""The task of the demo; the others are those of the second study."""
WHOLE = 16
"""The rank of the adapter that is cut."""
PARTS = {8: "half", 5: "third", 4: "quarter"}
"""The ranks whose bytes a cut may have; rank 5 is nearly a third of rank 16."""
TEXT_STEPS, SCALE = 300, 2.0
TEXTS = ("code", "languages", "prose-code")
"""The tasks of the second study where rank matters, as far as was known before the first run."""
TRIES = dict.fromkeys(TEXTS, (0.005, 0.01, 0.02)) | {WORDS: (0.001, 0.002, 0.004), "short": (0.04,)}
TUNING_SEED = 101
TUNED_RANK = 5
"""Where the second study tuned no smaller rank, this one gives the rate to all of them."""
SECONDS = {16: 40, 8: 18, 5: 18, 4: 18}
"""Of a test by its rank, measured before the plan was made; a run of tuning takes as rank 8."""


CHOICES = {
    "one": "cut to one rank everywhere",
    "bytes": "cut by energy per byte, over all modules",
    "values": "cut by energy, over all modules",
    "energy": "cut to the same part of energy in each module",
}
"""What `adalora shrink` calls `--budget --pad-ranks`, `--budget`, `--rank` and `--energy`."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What one cut gave.

    Attributes:
        size: the rank whose file the cut must not exceed.
        choice: a key of CHOICES.
        loss: of the adapter that was written and loaded.
        bytes: of its file.
        energy: part of the squared singular values that is kept.
        ranks: rank of each module, in the order of the file.
    """

    size: int
    choice: str
    loss: float
    bytes: int
    energy: float
    ranks: list[int]


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        task: a key of TASKS, or WORDS.
        stage: "tune" is measured on the development part, "test" on the test part.
        rank: of all modules; in the test WHOLE is cut.
        learning_rate: peak of the schedule.
        seed: decides pretrained model, initial values, order of the data and what is held out.
    """

    task: str
    stage: str
    rank: int
    learning_rate: float
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run gave.

    Attributes:
        job: the run.
        loss: nats per byte; on words nats per word.
        cpu_seconds: time of the process from the first to the last line of the run; 0 for a run
            that the second study made.
        base: digest of the pretrained weights.
        machine: processor and versions.
        bytes: of the adapter's file, where it was cut.
        without: the loss without the adapter, where it was cut.
        cuts: what each cut gave.
    """

    job: Job
    loss: float
    cpu_seconds: float
    base: str
    machine: str
    bytes: int = 0
    without: float = 0.0
    cuts: list[Cut] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the outcome as a mapping, as a line of the results holds it."""
        held = asdict(self)
        return {**held.pop("job"), **held}


class Outcomes(Results):
    """The outcomes in a file, by job."""

    types = (Job, Outcome)

    def parsed(self, line: str) -> Outcome:
        """Return the outcome in one line; raises as that of the first study."""
        found = super().parsed(line)
        return replace(found, cuts=[Cut(**each) for each in found.cuts])


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of the study: tuning first, then seed after seed all tasks.

    Attributes:
        tasks: keys of TRIES.
        seeds: the seeds of the tests.
        second: the results of the second study, which has tuned rank 6 and run ranks 8 and 4.
    """

    tasks: tuple[str, ...] = (*TEXTS, WORDS)
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    second: Path = SECOND

    def jobs(self, outcomes: Outcomes) -> Iterator[Job]:
        """Yield all runs; the caller adds the outcome of each before it asks for the next."""
        for task in self.tasks:
            for rank in (WHOLE,) if task in TEXTS else (WHOLE, TUNED_RANK):
                yield from tries(task, rank)
        for seed in self.seeds:
            for task in self.tasks:
                yield from (self.test(task, rank, seed, outcomes) for rank in (WHOLE, *PARTS))

    def test(self, task: str, rank: int, seed: int, outcomes: Outcomes) -> Job:
        """Return the test of a rank with the learning rate that tuning found."""
        return Job(task, "test", rank, self.rate(task, rank, outcomes), seed)

    def rate(self, task: str, rank: int, outcomes: Outcomes) -> float:
        """Return the learning rate with the lowest loss.

        Raises:
            KeyError: a run of the tuning has no outcome yet.
            RuntimeError: the same of the second study.
        """
        if task in TEXTS and rank != WHOLE:
            block = next(each for each in runs.Plan().blocks if each.task == task)
            return runs.best_try(block, "lora6", runs.Outcomes(self.second))[0]
        tuned = tries(task, WHOLE if rank == WHOLE else TUNED_RANK)
        return min(tuned, key=lambda each: outcomes[each].loss).learning_rate


def tries(task: str, rank: int) -> list[Job]:
    """Return the tuning of a rank."""
    return [Job(task, "tune", rank, rate, TUNING_SEED) for rate in TRIES[task]]
