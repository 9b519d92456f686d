"""Name the runs of the study, and the plan of which run follows which."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from arms import ARMS
from results import Results
from tasks import BASE_RATE, BLOCKS, SIZES, TASKS, TEST_SEEDS, TUNING_SEEDS, Block, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


DIVERGED = 99.0
"""The loss of a run whose loss is not a number."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        task: a key of TASKS; for the stage "base" the text of the pretraining.
        steps: optimizer steps, those of a pilot included.
        stage: "base" pretrains; "tune" is measured on the development part, "test" on the test
            part.
        arm: a key of ARMS; for the stage "base" the size.
        learning_rate: peak of the schedule.
        scale: factor of the adapters: alpha / rank for LoRA, alpha / init_r for AdaLoRA.
        seed: decides pretrained model, initial values, order of the data and held-out windows.
    """

    task: str
    steps: int
    stage: str
    arm: str
    learning_rate: float
    scale: float
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run gave.

    Attributes:
        job: the run.
        loss: nats per byte; on sentences 1 minus Spearman's correlation.
        parameters: adapter parameters at the end, as in an export to LoRA.
        cpu_seconds: time of the process from the first to the last line of the run.
        train_seconds: the part of it between the first and the last optimizer step.
        base: digest of the pretrained weights.
        machine: processor and versions.
        ranks: rank of each matrix, in the order of the modules.
    """

    job: Job
    loss: float
    parameters: int
    cpu_seconds: float
    train_seconds: float
    base: str
    machine: str
    ranks: list[int] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the outcome as a flat mapping, as a line of the results holds it."""
        held = asdict(self)
        return {**held.pop("job"), **held}


class Outcomes(Results):
    """The outcomes in a file, by job, and those of another study that count as well.

    Args:
        path: the file, to which new outcomes are added.
        recorded: the outcomes of a study before, which are looked up and not iterated.
    """

    types = (Job, Outcome)

    def __init__(self, path: Path, recorded: Outcomes | None = None) -> None:
        super().__init__(path)
        self._recorded = recorded

    def __contains__(self, job: Job) -> bool:
        return super().__contains__(job) or (self._recorded is not None and job in self._recorded)

    def __getitem__(self, job: Job) -> Outcome:
        if self._recorded is not None and not super().__contains__(job):
            return self._recorded[job]
        return super().__getitem__(job)


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of a study, block after block.

    Attributes:
        blocks: what runs, in order.
        seeds: the seeds of the test runs.
    """

    blocks: tuple[Block, ...] = BLOCKS
    seeds: Sequence[int] = TEST_SEEDS

    def bases(self) -> list[Job]:
        """Return the pretraining of each text, size and seed."""
        tasks = [TASKS[each.task] for each in self.blocks if TASKS[each.task].size]
        return list(dict.fromkeys(base_job(task, seed) for task in tasks for seed in self.seeds))

    def jobs(self, outcomes: Outcomes) -> Iterator[Job]:
        """Yield all runs in order, those included that have an outcome.

        Later runs depend on the outcomes of earlier ones: the caller adds the outcome of a job to
        `outcomes` before asking for the next.

        Raises:
            RuntimeError: the outcome of an earlier job is missing.
        """
        yield from self.bases()
        for block in self.blocks:
            for arm in (*block.only_tuned, *block.arms):
                yield from self.tuning(block, arm)
            # All arms of a seed before the next seed: an arm needs the ranks of one before it.
            for seed in self.seeds:
                for arm in block.arms:
                    yield self.test(block, arm, seed, outcomes)

    def tuning(self, block: Block, arm: str) -> list[Job]:
        """Return the tuning runs that an arm needs in this block."""
        if ARMS[arm].rate_of or block.tuned_in or block.given:
            return []
        return tries(block, arm)

    def test(self, block: Block, arm: str, seed: int, outcomes: Outcomes) -> Job:
        """Return a test run with the learning rate that tuning found."""
        rate, scale = best_try(block, arm, outcomes)
        return Job(block.task, block.steps, "test", arm, rate, scale, seed)


def base_seed_of(seed: int) -> int:
    """Return the seed whose pretrained model a run has; 101 and 102, which tune, share 1 and 2."""
    return seed - 100 if seed in TUNING_SEEDS else seed


def base_job(task: Task, seed: int) -> Job:
    """Return the pretraining of a seed."""
    steps = SIZES[task.size].base_steps
    return Job(task.source, steps, "base", task.size, BASE_RATE, 0.0, seed)


def tries(block: Block, arm: str) -> list[Job]:
    """Return the tuning runs of an arm: four tries, each on both tuning seeds."""
    task, steps = block.tuned_in or (block.task, block.steps)
    return [
        Job(task, steps, "tune", arm, rate, scale, seed)
        for rate, scale in ARMS[arm].tries(on_encoder=TASKS[task].on_encoder)
        for seed in TUNING_SEEDS
    ]


def best_try(block: Block, arm: str, outcomes: Outcomes) -> tuple[float, float]:
    """Return learning rate and scale with the lowest mean loss over the tuning seeds.

    Raises:
        RuntimeError: a tuning run has no outcome yet.
    """
    if block.given:
        return block.given
    losses: dict[tuple[float, float], list[float]] = {}
    for job in tries(block, ARMS[arm].rate_of or arm):
        if job not in outcomes:
            raise RuntimeError(f"{job} must run first; its loss is needed")
        losses.setdefault((job.learning_rate, job.scale), []).append(outcomes[job].loss)
    return min(losses, key=lambda each: statistics.fmean(losses[each]))


def found_ranks(job: Job, block: Block, outcomes: Outcomes) -> list[int] | None:
    """Return the ranks from which a run makes its own, None if it makes none so.

    Raises:
        RuntimeError: the run that finds them has no outcome yet.
    """
    arm = ARMS[job.arm]
    if not arm.ranks_of:
        return None
    averaged = arm.ranks == "averaged"
    rate, scale = best_try(replace(block, steps=300) if averaged else block, arm.ranks_of, outcomes)
    wanted = [replace(job, arm=arm.ranks_of, learning_rate=rate, scale=scale)]
    if averaged:
        wanted = [replace(wanted[0], steps=300, stage="test", seed=seed) for seed in TEST_SEEDS]
    for each in wanted:
        if each not in outcomes:
            raise RuntimeError(f"{each} must run first; its ranks are needed")
    return mean_of([outcomes[each].ranks for each in wanted])


def mean_of(patterns: Sequence[Sequence[int]]) -> list[int]:
    """Return the mean of several patterns of ranks, rounded in each module.

    Example:
        >>> mean_of([[1, 4], [2, 8], [2, 9]])
        [2, 7]
    """
    return [round(statistics.fmean(each)) for each in zip(*patterns, strict=True)]
