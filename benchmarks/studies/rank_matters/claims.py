"""State the claims of the second study, and test each by the differences of paired runs."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from intervals import CONFIDENCE, Interval, holm, paired
from tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runs import Outcome, Outcomes, Plan
    from tasks import Block

CLAIMS = {
    "a": "AdaLoRA that starts like LoRA, three times as wide and without penalty, beats LoRA at "
    "equal parameters and steps where rank matters, and is not worse elsewhere",
    "b": "It beats AdaLoRA that starts as in PEFT",
    "c": "The ranks that it finds beat one rank everywhere in a fresh LoRA at equal parameters",
    "d": "They beat the same ranks shuffled within each kind of module",
    "e": "In 1,000 steps, a pilot of 100 steps, counted, still beats one rank everywhere",
    "f": "AdaLoRA takes at most 1.1 times the processor time of LoRA for the same steps",
}
TIME_LIMIT = 1.1
STANDARD_ERRORS = 10
"""Rank matters on a task if LoRA of rank 8 beats rank 1 by so many."""
MARGIN = 0.1
"""The share of what doubling the rank gains that counts as not worse."""
CURVE = ("lora4", "lora6", "lora8")
ALL_LORA = ("lora1", *CURVE)

PAIRS = (
    ("a", "wide", "even", "loss"),
    ("b", "wide", "peft", "excess"),
    ("c", "found", "even", "loss"),
    ("d", "found", "shuffled", "loss"),
    ("e", "pilot100", "even-pilot", "loss"),
    ("f", "wide", "even", "time"),
)
"""Claim, the two arms, and what of them is compared.

`excess` is the loss minus that of LoRA with as many parameters, between the ranks that were run:
the two arms differ in parameters. `time` is the logarithm of the processor time.
"""
STEPS_OF = {"e": (1000,), "a": (200, 300, 1000)}
"""The lengths at which a claim is tested; the others at 200 and 300 steps."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two arms in one block, which is a test of a claim.

    Attributes:
        claim: a key of CLAIMS.
        block: task and steps.
        first, second: the arms.
        measure: "loss", "excess" or "time".
        matters: whether rank matters on the task.
        limit: the difference must be below it; zero where the first arm has to be better.
        interval: of the difference; None while a run is missing.
        adjusted: p-value after Holm's correction for all comparisons of the study.
    """

    claim: str
    block: Block
    first: str
    second: str
    measure: str
    matters: bool = True
    limit: float = 0.0
    interval: Interval | None = None
    adjusted: float = 1.0

    @property
    def holds(self) -> bool:
        """Whether the claim is shown here."""
        if self.interval is None or self.adjusted > 1 - CONFIDENCE:
            return False
        return self.interval.mean < self.limit

    @property
    def fails(self) -> bool:
        """Whether the contrary is shown here."""
        if self.interval is None or self.adjusted > 1 - CONFIDENCE:
            return False
        return self.interval.mean > self.limit


def tests_of(plan: Plan, outcomes: Outcomes, block: Block, arm: str) -> dict[int, Outcome]:
    """Return the test outcomes of an arm by seed."""
    return {seed: outcomes[plan.test(block, arm, seed, outcomes)] for seed in plan.seeds}


def standard_errors(plan: Plan, outcomes: Outcomes, block: Block) -> float:
    """Return by how many standard errors rank 8 beats rank 1."""
    low, high = (tests_of(plan, outcomes, block, arm) for arm in ("lora1", "lora8"))
    gains = [low[seed].loss - high[seed].loss for seed in low]
    mean, error = statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(len(gains))
    return mean / error if error else math.copysign(math.inf, mean)


def lora_at(parameters: float, curve: Mapping[int, float]) -> float:
    """Return the loss of LoRA with so many parameters, on lines between the ranks that were run.

    The lines are over the logarithm of the parameters. The loss falls ever slower with the rank, so
    that a line over the parameters themselves would be too high, and help the other arm.

    Example:
        >>> round(lora_at(200, {100: 2.0, 400: 1.0}), 3)
        1.5
    """
    points = sorted(curve.items())
    pairs = list(pairwise(points))
    (left, high), (right, low) = next(
        (pair for pair in pairs if parameters <= pair[1][0]), pairs[-1]
    )
    share = math.log(parameters / left) / math.log(right / left)
    return high + share * (low - high)


def curves(plan: Plan, outcomes: Outcomes, block: Block) -> dict[int, dict[int, float]]:
    """Return `{seed: {parameters: loss}}` of LoRA with one rank, nothing for a single rank."""
    arms = [arm for arm in ALL_LORA if arm in block.arms]
    if sum(arm in CURVE for arm in arms) < 2:
        return {}
    runs = [tests_of(plan, outcomes, block, arm) for arm in arms]
    return {seed: {each[seed].parameters: each[seed].loss for each in runs} for seed in plan.seeds}


def excess(outcome: Outcome, curve: Mapping[int, float]) -> float:
    """Return the loss minus that of LoRA with as many parameters."""
    return outcome.loss - lora_at(outcome.parameters, curve)


def comparisons(plan: Plan, outcomes: Outcomes) -> list[Comparison]:
    """Return all comparisons of the study, with p-values adjusted for all of them.

    On a task where rank does not matter only claim (a) is tested: whether AdaLoRA is not worse.
    """
    found = []
    for block in plan.blocks:
        of_task = next(each for each in plan.blocks if each.task == block.task)
        matters = standard_errors(plan, outcomes, of_task) >= STANDARD_ERRORS
        for claim, first, second, measure in PAIRS:
            if block.steps not in STEPS_OF.get(claim, (200, 300)):
                continue
            if not {first, second} <= {*block.arms} or not (matters or claim == "a"):
                continue
            limit = 0.0 if matters else MARGIN * doubling_gain(plan, outcomes, of_task)
            limit = math.log(TIME_LIMIT) if measure == "time" else limit
            made = Comparison(claim, block, first, second, measure, matters, limit)
            shifted = paired([each - limit for each in differences(made, plan, outcomes)])
            bounds = [each + limit for each in (shifted.mean, shifted.low, shifted.high)]
            found.append(replace(made, interval=Interval(*bounds, shifted.p)))
    adjusted = holm([each.interval.p for each in found if each.interval])
    return [replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True)]


def differences(made: Comparison, plan: Plan, outcomes: Outcomes) -> list[float]:
    """Return the difference of each seed."""
    ours = tests_of(plan, outcomes, made.block, made.first)
    theirs = tests_of(plan, outcomes, made.block, made.second)
    pairs = [(ours[seed], theirs[seed]) for seed in plan.seeds]
    if made.measure == "time":
        return [math.log(one.train_seconds / other.train_seconds) for one, other in pairs]
    if made.measure == "loss":
        return [one.loss - other.loss for one, other in pairs]
    lines = curves(plan, outcomes, made.block).values()
    return [
        excess(one, line) - excess(other, line)
        for (one, other), line in zip(pairs, lines, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Pooled:
    """Two arms over all texts in 300 steps, which was looked at when the results were known.

    Attributes:
        nats: the difference, mean over the texts, with the seeds as clusters.
        share: how much better, in parts of what LoRA gains from rank 4 to 8.
        tasks: on how many texts the mean is better, and of how many.
        pairs: in how many paired runs, and of how many.
    """

    nats: Interval
    share: Interval
    tasks: tuple[int, int]
    pairs: tuple[int, int]


def pooled(plan: Plan, outcomes: Outcomes, first: str, second: str, measure: str) -> Pooled:
    """Return the difference of two arms over the texts in 300 steps."""
    found, shares = [], []
    for block in plan.blocks:
        if {first, second} <= {*block.arms} and block.steps == 300:
            made = Comparison("", block, first, second, measure)
            one, gain = differences(made, plan, outcomes), doubling_gain(plan, outcomes, block)
            found.append(one)
            shares.append([-value / gain for value in one])
    better = [value < 0 for one in found for value in one]
    return Pooled(
        paired([statistics.fmean(each) for each in zip(*found, strict=True)]),
        paired([statistics.fmean(each) for each in zip(*shares, strict=True)]),
        (sum(statistics.fmean(one) < 0 for one in found), len(found)),
        (sum(better), len(better)),
    )


def in_parameters(share: float) -> float:
    """Return by how much more parameters LoRA gains as much; all of the gain is twice as many.

    Example:
        >>> in_parameters(1.0), round(in_parameters(0.5), 2)
        (1.0, 0.41)
    """
    return 2**share - 1


def doubling_gain(plan: Plan, outcomes: Outcomes, block: Block) -> float:
    """Return what LoRA gains from rank 4 to rank 8, zero if it gains nothing."""
    low, high = (tests_of(plan, outcomes, block, arm) for arm in ("lora4", "lora8"))
    return max(0.0, statistics.fmean(low[seed].loss - high[seed].loss for seed in plan.seeds))


def standing(claim: str, found: Sequence[Comparison]) -> str:
    """Return what may be said of a claim now."""
    tests = [each for each in found if each.claim == claim]
    parts = [_standing([each for each in tests if each.matters])]
    if elsewhere := [each for each in tests if not each.matters]:
        parts.append(f"where rank does not matter, {_standing(elsewhere)}")
    return "; ".join(parts)


def _standing(tests: Sequence[Comparison]) -> str:
    done = [each for each in tests if each.interval is not None]
    held = sum(each.holds for each in done)
    failed = sum(each.fails for each in done)
    text = f"shown in {held} of {len(tests)} comparisons"
    if failed:
        text += f", the contrary in {failed}"
    if len(done) < len(tests):
        text += f", {len(tests) - len(done)} not done yet"
        return f"{'does not hold' if failed else 'not decided'}, {text}"
    return text if not tests else f"{'holds' if held == len(tests) else 'does not hold'}, {text}"


def label(block: Block) -> str:
    """Return task and steps, as tables name a block."""
    return f"{TASKS[block.task].label}, {block.steps:,} steps"
