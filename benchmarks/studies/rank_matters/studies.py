"""State the studies of one question each: what runs, and the one test that decides."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from intervals import Interval, paired, quantile
from runs import Outcomes, Plan
from tasks import SIZES, TASKS, TEST_SEEDS, TUNED, Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
RECORDED = HERE / "results.jsonl"
"""The runs of the second study, with which new runs are paired."""
SECONDS_OF_STEP = {"small": 0.045, "large": 0.125, "tiny": 0.006}
"""Measured before the plans were made, on two busy cores of an AMD EPYC."""
SECONDS_BESIDE = {"small": 2.5, "large": 6.5, "tiny": 1.0}


@dataclass(frozen=True, slots=True)
class Study:
    """One question, and the one test that answers it.

    The test is Student's t over the seeds. Each seed has one number: the mean over the blocks of
    the weighted sum of the losses, in parts of what the second of two arms gains over the first.

    Attributes:
        question: as a reader would ask it.
        weights: `{arm: weight}` of the losses; the weights sum to zero, and below zero is better.
        blocks: what runs; the test is on those that run an arm of `weights`.
        expected: the share that was expected before the first run, lowest and highest.
        bound: the answer is yes if the lower bound, one-sided at 95 %, is above this share.
        gain: the two arms whose difference is the whole; LoRA of rank 4 and 8 if not said.
        beside: pairs of arms whose difference is shown too, and decides nothing.
        seeds: the seeds of the tests.
    """

    question: str
    weights: Mapping[str, float]
    blocks: tuple[Block, ...]
    expected: tuple[float, float]
    bound: float = 0.0
    gain: tuple[str, str] = ("lora4", "lora8")
    beside: tuple[tuple[str, str], ...] = ()
    seeds: Sequence[int] = TEST_SEEDS

    @property
    def plan(self) -> Plan:
        """The runs of the study."""
        return Plan(self.blocks, self.seeds)


def _blocks(arms: tuple[str, ...], *tasks: str) -> tuple[Block, ...]:
    return tuple(Block(task, 300, arms) for task in tasks)


_TEXTS = ("code", "languages", "prose-code")
_AVERAGED = ("averaged", "even-averaged", "lora8")
STUDIES = {
    "places": Study(
        "Does it matter which module of a kind gets which rank? Found ranks in a fresh LoRA, "
        "against the same ranks moved within kinds so that none stays in its place",
        {"found": 1, "moved": -1},
        _blocks(("moved",), *_TEXTS, "languages-large"),
        expected=(0.10, 0.30),
    ),
    "in-parameters": Study(
        "Does AdaLoRA beat LoRA of rank 4 at no more parameters, if it scores triplets and keeps "
        "its budget in parameters?",
        {"parameters": 1, "lora4": -1},
        _blocks(("parameters", "parameters-found"), "languages", "prose-code"),
        expected=(0.15, 0.30),
        bound=0.10,
        beside=(("parameters-found", "lora4"), ("parameters-found", "parameters")),
    ),
    "averaged": Study(
        "Do ranks averaged over eight seeds beat one rank on four other seeds, over 300, 1,000 and "
        "3,000 steps?",
        {"averaged": 1, "even-averaged": -1},
        (
            Block("code", 300, _AVERAGED),
            Block("code", 1000, _AVERAGED),
            Block("code", 3000, _AVERAGED, only_tuned=TUNED),
        ),
        expected=(0.15, 0.40),
        gain=("even-averaged", "lora8"),
        seeds=range(9, 13),
    ),
    "rates": Study(
        "Do learning rates in proportion to the found ranks give one rank 70 % of what found ranks "
        "gain?",
        {"rates": 1, "found": -0.7, "even": -0.3},
        _blocks(("rates",), *_TEXTS),
        expected=(-0.15, 0.0),
        beside=(("rates", "even"), ("rates", "found")),
    ),
    "half-rate": Study(
        "Does AdaLoRA gain from half the learning rate until its triplets are dropped?",
        {"half": 1, "wide": -1},
        _blocks(("half",), *_TEXTS) + _blocks(("peft16", "peft32", "never"), "code"),
        expected=(0.03, 0.10),
        beside=(("peft16", "peft"), ("peft32", "peft"), ("never", "wide")),
    ),
}
"""By the name that the program takes, and that their results have."""
_SHORT = (
    *("lora1", "lora8", "wide", "even", "broken", "found", "moved"),
    *("parameters", "parameters-found", "rates", "half", "never"),
)
SHORT = Plan((Block("short", 60, _SHORT, given=(0.04, 2.0)),), seeds=(1, 2))
"""The short form: tiny models of this repository's own text, in seconds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer of a study.

    Attributes:
        interval: of the share, two-sided at 95 %.
        lower: the bound of the share, one-sided at 95 %.
        beside: intervals of `Study.beside`.
    """

    interval: Interval
    lower: float
    beside: tuple[Interval, ...]


def outcomes_of(name: str) -> Outcomes:
    """Return the outcomes of a study, beside those of the second one."""
    return Outcomes(HERE / f"{name}.jsonl", Outcomes(RECORDED))


def reading(study: Study, outcomes: Outcomes) -> Reading | None:
    """Return the answer of a study, None while one of its runs is missing."""
    try:
        if not all(job in outcomes for job in study.plan.jobs(outcomes)):
            return None
    except RuntimeError:  # a run that others need is missing
        return None
    found = shares(study, outcomes, study.weights)
    beside = [shares(study, outcomes, {one: 1, other: -1}) for one, other in study.beside]
    error = statistics.stdev(found) / math.sqrt(len(found))
    lower = statistics.fmean(found) - error * quantile(0.90, len(found) - 1)
    return Reading(paired(found), lower, tuple(paired(each) for each in beside))


def shares(study: Study, outcomes: Outcomes, weights: Mapping[str, float]) -> list[float]:
    """Return for each seed how much better the arms are, in parts of the gain, over the blocks."""

    def loss(block: Block, arm: str, seed: int) -> float:
        return outcomes[study.plan.test(block, arm, seed, outcomes)].loss

    blocks = [each for each in study.blocks if weights.keys() & {*each.arms}]
    found = []
    for block in blocks:
        low, high = study.gain
        gains = [loss(block, low, seed) - loss(block, high, seed) for seed in study.seeds]
        found.append(
            [
                -sum(weight * loss(block, arm, seed) for arm, weight in weights.items())
                / statistics.fmean(gains)
                for seed in study.seeds
            ]
        )
    return [statistics.fmean(of_seed) for of_seed in zip(*found, strict=True)]


def minutes(study: Study) -> float:
    """Return the estimated time of one processor, with all pretraining."""
    plan, seconds = study.plan, 0.0
    for block in study.blocks:
        tests = len(block.arms) * len(study.seeds)
        tuning = sum(len(plan.tuning(block, arm)) for arm in (*block.only_tuned, *block.arms))
        size = TASKS[block.task].size
        one = block.steps * SECONDS_OF_STEP[size] + SECONDS_BESIDE[size]
        seconds += (tests + tuning) * one
    # A batch of the pretraining is twice as large, and all weights have gradients.
    for job in plan.bases():
        seconds += 2.5 * SIZES[job.arm].base_steps * SECONDS_OF_STEP[job.arm]
    return seconds / 60
