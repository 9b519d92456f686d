"""State the claims of the study, and test each by the differences of paired runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from claims import Comparison
from cut_plan import CHOICES, PARTS, WHOLE
from intervals import Interval, holm, paired
from tasks import TASKS, Block

if TYPE_CHECKING:
    from cut_plan import Outcomes, Plan

CLAIMS = {
    "a": "Cut by energy per byte, the loss is lower than cut to one rank everywhere",
    "b": "Cut by energy per byte, the loss is lower than cut to the same part of energy in each "
    "module",
    "c": "Trained at that size, the loss is lower than cut by energy per byte",
}
TRAINED, UNCUT, WITHOUT = "trained", "uncut", "without"
"""Arms beside those of CHOICES: trained at the size, the whole adapter, and none."""
PAIRS = {"a": ("bytes", "one"), "b": ("bytes", "energy"), "c": (TRAINED, "bytes")}


@dataclass(frozen=True, slots=True)
class CutComparison(Comparison):
    """The difference of two arms on one task at one size, a key of PARTS."""

    size: int = 0


def losses(plan: Plan, outcomes: Outcomes, task: str, size: int) -> dict[str, dict[int, float]]:
    """Return `{arm: {seed: loss}}` for the seeds that have all runs of a size."""
    found: dict[str, dict[int, float]] = {arm: {} for arm in (*CHOICES, TRAINED, UNCUT, WITHOUT)}
    for seed in plan.seeds:
        try:
            whole = outcomes[plan.test(task, WHOLE, seed, outcomes)]
            trained = outcomes[plan.test(task, size, seed, outcomes)]
        except (KeyError, RuntimeError):  # a run is missing, or its tuning
            continue
        if trained.base != whole.base:
            continue
        found[TRAINED][seed] = trained.loss
        found[UNCUT][seed], found[WITHOUT][seed] = whole.loss, whole.without
        for each in whole.cuts:
            if each.size == size:
                found[each.choice][seed] = each.loss
    return found


def difference(of_arm: dict[str, dict[int, float]], first: str, second: str) -> Interval | None:
    """Return the interval of the differences of two arms; None for fewer than two seeds."""
    ours, theirs = of_arm[first], of_arm[second]
    return paired([ours[seed] - theirs[seed] for seed in ours]) if len(ours) > 1 else None


def comparisons(plan: Plan, outcomes: Outcomes) -> list[CutComparison]:
    """Return all comparisons of the study, with p-values adjusted for all of them.

    A comparison with a missing run has no interval, and counts with a p-value of 1.
    """
    found = []
    for task in plan.tasks:
        for size in PARTS:
            of_arm = losses(plan, outcomes, task, size)
            is_complete = len(of_arm[TRAINED]) == len(plan.seeds)
            for claim, (first, second) in PAIRS.items():
                made = CutComparison(
                    claim, Block(task, 0, ()), first, second, "loss", size=size,
                    interval=difference(of_arm, first, second) if is_complete else None,
                )  # fmt: skip
                found.append(made)
    p_values = [1.0 if each.interval is None else each.interval.p for each in found]
    return [replace(each, adjusted=p) for each, p in zip(found, holm(p_values), strict=True)]


def label(task: str) -> str:
    """Return what tables call a task."""
    return TASKS[task].label if task in TASKS else "words of the demo"
