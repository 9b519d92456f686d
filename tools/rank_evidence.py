"""Make the results of the second study in docs/evidence.md, and their picture."""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from functools import partial
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "benchmarks" / "studies"
STUDY = STUDIES / "rank_matters"
sys.path[:0] = [str(STUDY), str(STUDIES / "allocation")]

from arms import ARMS  # noqa: E402 - found on the path set above
from claims import (  # noqa: E402 - same
    CLAIMS,
    STANDARD_ERRORS,
    comparisons,
    complete,
    curves,
    excess,
    label,
    standard_errors,
    standing,
    tests_of,
)
from intervals import Interval, paired  # noqa: E402 - same
from outcomes import Outcomes  # noqa: E402 - same
from runs import Plan, best_try  # noqa: E402 - same
from tasks import BLOCKS, KINDS, TASKS, Block  # noqa: E402 - same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claims import Comparison
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from runs import Outcome

RESULTS = STUDY / "results.jsonl"
PICTURE = ROOT / "docs" / "rank-study.png"
EXPECTED = {("a", "news"): "nothing shown", ("a", "movies"): "nothing shown", ("b", "movies"): ""}
"""What was expected of a comparison, if anything; of all others, that the claim holds."""
COLUMNS = 4
REFERENCE = "even"
"""The arm from which the intervals of the picture are measured."""


def as_expected(each: Comparison) -> str:
    """Return whether a complete comparison came out as it was expected."""
    said = EXPECTED.get((each.claim, each.block.task), "holds")
    came = each.holds if said == "holds" else not (each.holds or each.fails)
    return ("yes" if came else "no") if said else "not said"


def block() -> str:
    """Return the written part of the page: claims first, then what they rest on."""
    plan, outcomes = Plan(), Outcomes(RESULTS)
    found = comparisons(plan, outcomes)
    parts = ["\n".join(f"- **({claim}) {text}: {standing(claim, found)}.**"
                       for claim, text in CLAIMS.items()), _state(outcomes)]  # fmt: skip
    parts += _checks(plan, outcomes)
    parts += _comparisons(found)
    parts.append(READING)
    for task, steps in dict.fromkeys((each.task, each.steps) for each in plan.blocks):
        parts += _arms(plan, outcomes, task, steps)
    parts += _agreement(plan, outcomes)
    if drawable():
        parts.append("![Loss by parameters, and the ranks found with two seeds](rank-study.png)")
    return "\n\n".join(parts)


READING = """\
In the tables of arms the difference is to the line between LoRA's ranks. The comparisons, but for
(b), are with a paired LoRA; the two can disagree, as on English to Python. These intervals are not
adjusted. Edge: the smallest or the largest rate that was tried. Seconds of arms that did not run
at the same time are not comparable."""
SAID = {
    "a": "AdaLoRA that starts like LoRA is shown",
    "c": "the ranks that it finds, in a fresh LoRA (the search not counted), are shown",
    "d": "beside the same ranks shuffled they are shown",
}


def words(claims: str) -> str:
    """Return what a page says in a sentence of the claims that are asked about most."""
    found = comparisons(Plan(), Outcomes(RESULTS))
    said = []
    for claim in claims:
        done = [each for each in found if each.claim == claim and each.matters and each.interval]
        text = (
            f"{SAID[claim]} better in {sum(each.holds for each in done)} of {len(done)} comparisons"
        )
        worse = sum(each.fails for each in done)
        said.append(f"{text} and worse in {worse}" if worse else text)
    return "; ".join(said)


def drawable() -> bool:
    """Return whether a task has all runs of LoRA and AdaLoRA."""
    plan, outcomes = Plan(), Outcomes(RESULTS)
    return any(_drawn(plan, outcomes, each) for each in BLOCKS)


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
        if errors is None:
            continue
        low, high = (complete(plan, outcomes, first, arm) for arm in ("lora1", "lora8"))
        rows.append(
            f"| {label(first)} | {_mean(low.values())} | {_mean(high.values())} | {errors:.1f} "
            f"| {'decides' if errors >= STANDARD_ERRORS else 'does not decide'} |"
        )
    if not rows:
        return []
    return [
        "### Where rank matters",
        "| task | loss of LoRA, rank 1 | rank 8 | difference in standard errors | task |\n"
        "|---|---:|---:|---:|---|\n" + "\n".join(rows),
    ]


def _comparisons(found: Sequence[Comparison]) -> list[str]:
    """Return all complete comparisons, those that show nothing first."""
    done = [each for each in found if each.interval is not None]
    if not done:
        return []
    rows = []
    for each in sorted(done, key=lambda each: (each.holds or each.fails, each.claim)):
        result = "shown" if each.holds else "the contrary" if each.fails else "nothing shown"
        rows.append(
            f"| ({each.claim}) | {label(each.block)} | {ARMS[each.first].label} minus "
            f"{ARMS[each.second].label} | {_measured(each)} "
            f"| {each.adjusted:.2g} | {result} | {as_expected(each)} |"
        )
    null = sum(not (each.holds or each.fails) for each in done)
    text = (
        f"{len(done)} of {len(found)} comparisons are complete; {null} of them show nothing. "
        f"p-values are adjusted for all {len(found)}."
    )
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
    return f"{name}{_interval(each.interval)}{limit}"


def _arms(plan: Plan, outcomes: Outcomes, task: str, steps: int) -> list[str]:
    """Return the arms of one task that all seeds have run, beside LoRA of equal parameters."""
    blocks = [each for each in plan.blocks if (each.task, each.steps) == (task, steps)]
    of_lora = curves(plan, outcomes, blocks[0])
    rows = [
        _arm_row(outcomes, each, arm, runs, of_lora)
        for each in blocks
        for arm in each.arms
        if (runs := complete(plan, outcomes, each, arm))
    ]
    if not rows:
        return []
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
    tried = [each for each, _ in tuned.tries(on_encoder=TASKS[of_block.task].on_encoder)]
    edge = " (edge)" if rate in {min(tried), max(tried)} else ""
    beside = ""
    if runs.keys() <= of_lora.keys() and arm not in {"lora1", "lora4", "lora6", "lora8"}:
        found = paired([excess(each, of_lora[seed]) for seed, each in runs.items()])
        beside = _interval(found)
    losses = [each.loss for each in runs.values()]
    return (
        f"| {ARMS[arm].label} | {rate:g}, {scale:g}{edge} "
        f"| {statistics.fmean(losses):.4f} ({statistics.stdev(losses):.4f}) "
        f"| {statistics.fmean(each.parameters for each in runs.values()):,.0f} | {beside} "
        f"| {statistics.fmean(each.train_seconds for each in runs.values()):.1f} |"
    )


def _agreement(plan: Plan, outcomes: Outcomes) -> list[str]:
    """Return how alike the ranks are that two seeds find."""
    rows = []
    for each in plan.blocks:
        for arm in ("wide", "peft", "pilot100"):
            runs = complete(plan, outcomes, each, arm) if arm in each.arms else {}
            if runs:
                ordered = [runs[seed].ranks for seed in sorted(runs)]
                found = [statistics.correlation(*both) for both in pairwise(ordered)]
                rows.append(
                    f"| {label(each)} | {ARMS[arm].label} | {statistics.fmean(found):.2f} "
                    f"| {min(found):.2f} |"
                )
    if not rows:
        return []
    return [
        "### Do two seeds find the same ranks?",
        "Correlation of the ranks of a seed with those of the next, on texts with another "
        "pretrained model.\n\n| task | arm | mean | smallest |\n|---|---|---:|---:|\n"
        + "\n".join(rows),
    ]


def _mean(runs: Sequence[Outcome]) -> str:
    return f"{statistics.fmean(each.loss for each in runs):.4f}"


def _interval(found: Interval | None) -> str:
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]" if found else ""


def _drawn(plan: Plan, outcomes: Outcomes, of_block: Block) -> bool:
    needed = (REFERENCE, "wide")
    return of_block.steps <= 300 and all(
        arm in of_block.arms and complete(plan, outcomes, of_block, arm) for arm in needed
    )


def draw() -> Figure:
    """Draw loss by parameters for each task, the variants, and the ranks that two seeds found."""
    from matplotlib.figure import Figure

    plan, outcomes = Plan(), Outcomes(RESULTS)
    tasks = [each for each in plan.blocks if _drawn(plan, outcomes, each)]
    panels = [partial(_draw_task, of_block=each, plan=plan, outcomes=outcomes) for each in tasks]
    panels += [
        partial(_draw_ranks, outcome=tests_of(plan, outcomes, each, "wide")[seed])
        for each in tasks
        if TASKS[each.task].size
        for seed in (1, 2)
    ]
    # The last one: its legend needs the room beside it.
    panels += [
        partial(_draw_task, of_block=tasks[0], plan=plan, outcomes=outcomes, variants=each)
        for each in plan.blocks
        if "from8" in each.arms and complete(plan, outcomes, each, "from8")
    ]
    rows = math.ceil(len(panels) / COLUMNS)
    figure = Figure(figsize=(4.6 * COLUMNS, 3.9 * rows))
    for axes, panel in zip_longest(figure.subplots(rows, COLUMNS, squeeze=False).flat, panels):
        if panel is None:
            axes.set_visible(False)
        else:
            panel(axes)
    figure.tight_layout()
    return figure


def _draw_task(
    axes: Axes, of_block: Block, plan: Plan, outcomes: Outcomes, variants: Block | None = None
) -> None:
    """Draw the arms of a task; an interval is that of the difference to LoRA with one rank."""
    runs_of = {
        arm: runs
        for each in ((of_block, variants) if variants else (of_block,))
        for arm in each.arms
        if arm != "lora1" and (runs := complete(plan, outcomes, each, arm))
        if variants is None or arm.startswith("lora") or each is variants or arm == "wide"
    }
    of_lora = complete(plan, outcomes, of_block, REFERENCE)
    level = statistics.fmean(each.loss for each in of_lora.values())
    line = []
    for place, (arm, runs) in enumerate(runs_of.items()):
        found = paired([runs[seed].loss - of_lora[seed].loss for seed in runs])
        size = statistics.fmean(run.parameters for run in runs.values())
        mean, reach = level + found.mean, found.high - found.mean
        if arm.startswith("lora") or arm == REFERENCE:
            axes.errorbar(size, mean, yerr=reach, capsize=3, fmt="o", color="grey")
            line.append((size, mean))
        else:
            mark = "sD^v"[place // 10]
            axes.errorbar(size, mean, yerr=reach, capsize=3, fmt=mark, label=ARMS[arm].label)
    axes.plot(*zip(*sorted(line), strict=True), color="grey", linewidth=1, label="LoRA, one rank")
    axes.set_title(label(of_block) + (": variants" if variants else ""), fontsize=9)
    axes.set_xlabel("adapter parameters")
    axes.locator_params("x", nbins=5)
    axes.set_ylabel("loss; 95 % interval of the\ndifference to LoRA", fontsize=8)
    if variants is None:
        axes.legend(fontsize=6)
    else:
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.02, 1)).set_in_layout(False)


def _draw_ranks(axes: Axes, outcome: Outcome) -> None:
    """Draw the ranks of each module, blocks to the right."""
    kinds = len(KINDS)
    columns = [
        outcome.ranks[start : start + kinds] for start in range(0, len(outcome.ranks), kinds)
    ]
    grid = [list(row) for row in zip(*columns, strict=True)]
    axes.imshow(grid, cmap="Blues", vmin=0, aspect="auto")
    for row, of_kind in enumerate(grid):
        for column, rank in enumerate(of_kind):
            axes.text(column, row, str(rank), ha="center", va="center", fontsize=8)
    axes.set_yticks(range(kinds), KINDS, fontsize=8)
    axes.set_xticks(
        range(len(columns)), [f"block {place + 1}" for place in range(len(columns))], fontsize=7
    )
    axes.set_title(f"ranks, seed {outcome.job.seed}: {TASKS[outcome.job.task].label}", fontsize=9)
