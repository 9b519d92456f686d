"""Make the results of the second study in benchmarks/studies/tables.md."""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "benchmarks" / "studies"
STUDY = STUDIES / "rank_matters"
sys.path[:0] = [str(STUDY), str(STUDIES / "allocation")]

from arms import ARMS  # noqa: E402 - found on the path set above
from claims import (  # noqa: E402 - same
    CLAIMS,
    PAIRS,
    STANDARD_ERRORS,
    comparisons,
    curves,
    excess,
    in_parameters,
    label,
    pooled,
    standard_errors,
    standing,
    tests_of,
)
from intervals import Interval, paired  # noqa: E402 - same
from runs import Outcomes, Plan, best_try  # noqa: E402 - same
from study_tables import edge, interval  # noqa: E402 - same
from tasks import KINDS, TASKS, Block  # noqa: E402 - same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claims import Comparison, Pooled
    from runs import Outcome

RESULTS = STUDY / "results.jsonl"
EXPECTED = {("a", "news"): "nothing shown", ("a", "movies"): "nothing shown", ("b", "movies"): ""}
"""What was expected of a comparison, if anything; of all others, that the claim holds."""


def as_expected(each: Comparison) -> str:
    """Return whether a comparison came out as it was expected."""
    said = EXPECTED.get((each.claim, each.block.task), "holds")
    came = each.holds if said == "holds" else not (each.holds or each.fails)
    return ("yes" if came else "no") if said else "not said"


def block() -> str:
    """Return the written part of the page: claims first, then what they rest on."""
    plan, outcomes = Plan(), Outcomes(RESULTS)
    found = comparisons(plan, outcomes)
    parts = ["\n".join(f"- **({claim}) {text}: {standing(claim, found)}.**"
                       for claim, text in CLAIMS.items()), _state(outcomes)]  # fmt: skip
    parts += _pooled(plan, outcomes)
    parts += _checks(plan, outcomes)
    parts += _comparisons(found)
    parts.append(READING)
    for task, steps in dict.fromkeys((each.task, each.steps) for each in plan.blocks):
        parts += _arms(plan, outcomes, task, steps)
    parts += _agreement(plan, outcomes)
    return "\n\n".join(parts)


READING = """\
In the tables of arms the difference is to the line between LoRA's ranks. The comparisons, but for
(b), are with a paired LoRA; the two can disagree, as on English to Python. These intervals are not
adjusted. Edge: the smallest or the largest learning rate that was tried at this scale, or such a
scale; the arm may be better beyond. LoRA, and AdaLoRA with its start, were tried at scale 2 alone.
Seconds of arms that did not run at the same time are not comparable."""


POOLED = """\
This table was not planned: it was made when all results were known, and its p-values are not
adjusted. A difference is pooled over the texts in 300 steps, with the seeds as clusters; the texts
are taken as given. The share is of what LoRA gains from rank 4 to rank 8, and the parameters are
those that LoRA needs beyond its own for as much, on a line over their logarithm."""


def _pooled(plan: Plan, outcomes: Outcomes) -> list[str]:
    """Return the first four claims, and one more difference, over the texts together."""
    rows = []
    for claim, first, second, measure in [*PAIRS[:4], ("", "found", "wide", "loss")]:
        found = pooled(plan, outcomes, first, second, measure)
        rows.append(
            f"| {f'({claim}) ' if claim else ''}{ARMS[first].label} minus {ARMS[second].label} "
            f"| {interval(found.nats)} | {found.nats.p:.2g} "
            f"| {percent(found.share)} | {more_parameters(found)} "
            f"| {found.tasks[0]} of {found.tasks[1]} | {found.pairs[0]} of {found.pairs[1]} |"
        )
    return [
        "### The texts together, looked at afterwards",
        POOLED,
        "| arms | difference, with 95 % interval | p | share of the gain from rank 4 to 8 "
        "| in parameters | texts ahead | paired runs ahead |\n|---|---|---:|---|---:|---:|---:|\n"
        + "\n".join(rows),
    ]


def percent(found: Interval) -> str:
    """Return a share in percent."""
    return f"{100 * found.mean:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def more_parameters(found: Pooled) -> str:
    """Return how many more parameters LoRA needs for as much."""
    return f"{100 * in_parameters(found.share.mean):.0f} %"


def _state(outcomes: Outcomes) -> str:
    """Return how many runs there were, and on what."""
    hours = sum(each.cpu_seconds for each in outcomes) / 3600
    machines = Counter(each.machine for each in outcomes)
    text = f"{len(outcomes)} runs, {hours:.1f} hours of one processor, on "
    return text + "; ".join(f"{name} ({count} runs)" for name, count in machines.items()) + "."


def _checks(plan: Plan, outcomes: Outcomes) -> list[str]:
    """Return for each task whether rank matters there."""
    rows = []
    for task in dict.fromkeys(each.task for each in plan.blocks):
        first = next(each for each in plan.blocks if each.task == task)
        errors = standard_errors(plan, outcomes, first)
        low, high = (tests_of(plan, outcomes, first, arm) for arm in ("lora1", "lora8"))
        rows.append(
            f"| {label(first)} | {_mean(low.values())} | {_mean(high.values())} | {errors:.1f} "
            f"| {'decides' if errors >= STANDARD_ERRORS else 'does not decide'} |"
        )
    return [
        "### Where rank matters",
        "| task | loss of LoRA, rank 1 | rank 8 | difference in standard errors | task |\n"
        "|---|---:|---:|---:|---|\n" + "\n".join(rows),
    ]


def _comparisons(found: Sequence[Comparison]) -> list[str]:
    """Return all comparisons, those that show nothing first."""
    rows = []
    for each in sorted(found, key=lambda each: (each.holds or each.fails, each.claim)):
        result = "shown" if each.holds else "the contrary" if each.fails else "nothing shown"
        rows.append(
            f"| ({each.claim}) | {label(each.block)} | {ARMS[each.first].label} minus "
            f"{ARMS[each.second].label} | {_measured(each)} "
            f"| {each.adjusted:.2g} | {result} | {as_expected(each)} |"
        )
    null = sum(not (each.holds or each.fails) for each in found)
    text = f"{null} of {len(found)} comparisons show nothing. p-values are adjusted for all."
    return [
        "### Comparisons",
        text,
        "| claim | task | arms | difference, with 95 % interval | p after Holm | result "
        "| as expected |\n|---|---|---|---|---:|---|---|\n" + "\n".join(rows),
    ]


def _measured(each: Comparison) -> str:
    """Return the difference of a comparison, with its limit if that is not zero."""
    if each.interval is None:
        return ""
    if each.measure == "time":
        mean, low, high = (math.exp(each.interval.mean), math.exp(each.interval.low),
                           math.exp(each.interval.high))  # fmt: skip
        return f"time {mean:.2f} [{low:.2f}, {high:.2f}], limit {math.exp(each.limit):g}"
    limit = f", limit {each.limit:+.4f}" if not each.matters else ""
    name = "beyond LoRA of as many parameters " if each.measure == "excess" else ""
    return f"{name}{interval(each.interval)}{limit}"


def _arms(plan: Plan, outcomes: Outcomes, task: str, steps: int) -> list[str]:
    """Return the arms of one task that all seeds have run, beside LoRA of equal parameters."""
    blocks = [each for each in plan.blocks if (each.task, each.steps) == (task, steps)]
    of_lora = curves(plan, outcomes, blocks[0])
    rows = [
        _arm_row(outcomes, each, arm, tests_of(plan, outcomes, each, arm), of_lora)
        for each in blocks
        for arm in each.arms
    ]
    return [
        f"### Arms: {label(blocks[0])}",
        "| arm | learning rate, scale | loss (deviation) | parameters "
        "| minus LoRA of as many parameters, with 95 % interval | CPU seconds of training |\n"
        "|---|---|---:|---:|---|---:|\n" + "\n".join(rows),
    ]


def _arm_row(
    outcomes: Outcomes,
    of_block: Block,
    arm: str,
    runs: dict[int, Outcome],
    of_lora: dict[int, dict[int, float]],
) -> str:
    rate, scale = best_try(of_block, arm, outcomes)
    tuned = ARMS[ARMS[arm].rate_of or arm]
    mark = edge((rate, scale), tuned.tries(on_encoder=TASKS[of_block.task].on_encoder))
    if of_block.tuned_in and of_block.tuned_in[1] != of_block.steps:
        mark += f" (tuned in {of_block.tuned_in[1]:,} steps)"
    beside = ""
    if runs.keys() <= of_lora.keys() and arm not in {"lora1", "lora4", "lora6", "lora8"}:
        found = paired([excess(each, of_lora[seed]) for seed, each in runs.items()])
        beside = interval(found)
    losses = [each.loss for each in runs.values()]
    return (
        f"| {ARMS[arm].label} | {rate:g}, {scale:g}{mark} "
        f"| {statistics.fmean(losses):.4f} ({statistics.stdev(losses):.4f}) "
        f"| {statistics.fmean(each.parameters for each in runs.values()):,.0f} | {beside} "
        f"| {statistics.fmean(each.train_seconds for each in runs.values()):.1f} |"
    )


def _agreement(plan: Plan, outcomes: Outcomes) -> list[str]:
    """Return how alike the ranks are that two seeds find, over all modules and within kinds."""
    rows = []
    for each in plan.blocks:
        for arm in ("wide", "peft", "pilot100"):
            if arm in each.arms:
                runs = tests_of(plan, outcomes, each, arm)
                ordered = [runs[seed].ranks for seed in sorted(runs)]
                inner = [_without_kinds(ranks) for ranks in ordered]
                found = [statistics.correlation(*both) for both in pairwise(ordered)]
                within = [statistics.correlation(*both) for both in pairwise(inner)]
                rows.append(
                    f"| {label(each)} | {ARMS[arm].label} | {statistics.fmean(found):.2f} "
                    f"| {min(found):.2f} | {statistics.fmean(within):.2f} |"
                )
    return [
        "### Do two seeds find the same ranks?",
        "Correlation of the ranks of a seed with those of the next, on texts with another "
        "pretrained model. Within kinds the mean of each kind of module is subtracted first: what "
        "is left is whether the seeds agree on the blocks.\n\n"
        "| task | arm | mean | smallest | mean within kinds |\n|---|---|---:|---:|---:|\n"
        + "\n".join(rows),
    ]


def _without_kinds(ranks: Sequence[int]) -> list[float]:
    """Return the ranks minus the mean of their kind; the kinds of a block follow each other."""
    kinds = len(KINDS)
    means = [statistics.fmean(ranks[kind::kinds]) for kind in range(kinds)]
    return [rank - means[place % kinds] for place, rank in enumerate(ranks)]


def _mean(runs: Sequence[Outcome]) -> str:
    return f"{statistics.fmean(each.loss for each in runs):.4f}"
