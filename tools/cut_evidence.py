"""Make the results of the third study in benchmarks/studies/tables.md."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "benchmarks" / "studies"
sys.path[:0] = [str(STUDIES / name) for name in ("cutting", "rank_matters", "allocation")]

from claims import standing  # noqa: E402 - found on the path set above
from cut_claims import (  # noqa: E402 - same
    CLAIMS,
    PAIRS,
    TRAINED,
    UNCUT,
    WITHOUT,
    comparisons,
    difference,
    label,
    losses,
)
from cut_plan import CHOICES, PARTS, RESULTS, TEXTS, TRIES, WHOLE, Outcomes, Plan  # noqa: E402
from intervals import paired  # noqa: E402 - same
from study_tables import interval  # noqa: E402 - same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cut_claims import CutComparison


def block(results: Path = RESULTS) -> str:
    """Return the written part of the page: claims first, then what they rest on."""
    plan, outcomes = Plan(), Outcomes(results)
    found = comparisons(plan, outcomes)
    claims = [
        f"- **({claim}) {text}: {standing(claim, found)}.**" for claim, text in CLAIMS.items()
    ]
    parts = ["\n".join(claims), _state(plan, outcomes)]
    cells = {(each.block.task, each.size, each.claim): each for each in found}
    rows = {
        (task, size): of_arm
        for task in plan.tasks
        for size in PARTS
        if len((of_arm := losses(plan, outcomes, task, size))[TRAINED]) > 1
    }
    if rows:
        parts += _differences(rows, cells)
        parts += _losses(rows)
        parts += _energy(rows, plan, outcomes)
    return "\n\n".join(parts)


def _state(plan: Plan, outcomes: Outcomes) -> str:
    """Return how much of the plan is there, on what it ran, and which rates tuning chose."""
    tests = [each for each in outcomes if each.job.stage == "test"]
    total = len(plan.seeds) * len(plan.tasks) * (1 + len(PARTS))
    text = f"{len(tests)} of {total} planned tests are done."
    if len(tests) < total:
        text += " **The study is incomplete**: nothing is claimed where a run is missing."
    if not tests:
        return text
    minutes = sum(each.cpu_seconds for each in outcomes) / 60
    machines = Counter(each.machine for each in outcomes)
    reused = sum(not each.cpu_seconds for each in tests)
    text += f" Cost, with tuning: {minutes:.0f} minutes of one processor, on "
    text += "; ".join(f"{name} ({count} runs)" for name, count in machines.items())
    text += f". {reused} tests of ranks 8 and 4 are those of the second study. Learning rates: "
    rates = []
    for task in dict.fromkeys(each.job.task for each in tests):
        ends, small = {min(TRIES[task]), max(TRIES[task])}, max(PARTS)
        found = {rank: plan.rate(task, rank, outcomes) for rank in (WHOLE, small)}
        told = {rank: f"{rate:g}" + " (edge)" * (rate in ends) for rank, rate in found.items()}
        if task in TEXTS:
            told[small] = f"{found[small]:g}"
        rates.append(f"{label(task)} {told[WHOLE]} at rank 16, {told[small]} at 8, 5 and 4")
    text += "; ".join(rates)
    return text + ". Edge: the smallest or the largest that was tried, at scale 2 alone."


def _differences(
    rows: dict[tuple[str, int], dict[str, dict[int, float]]],
    cells: dict[tuple[str, int, str], CutComparison],
) -> list[str]:
    """Return the differences that test the claims, and two that test none."""
    lines = []
    for (task, size), of_arm in rows.items():
        line = [f"{_row_start(task, size)} {len(of_arm[TRAINED])}"]
        for claim, (first, second) in PAIRS.items():
            each, text = cells[task, size, claim], interval(difference(of_arm, first, second))
            if each.interval:
                result = "shown" if each.holds else "the contrary" if each.fails else "not shown"
                text += f", p {each.adjusted:.2g}: {result}"
            line.append(text)
        line += [interval(difference(of_arm, "values", other)) for other in ("one", "bytes")]
        lines.append(" | ".join(line) + " |")
    intro = (
        "Losses, with 95 % intervals; below zero the first is better. p-values are adjusted "
        f"for all {len(cells)} comparisons. The last two columns test no claim."
    )
    head = (
        "| task | cut to | seeds | (a) energy per byte minus one rank | (b) energy per byte minus "
        "equal energy | (c) trained minus cut by energy per byte | energy minus one rank "
        "| energy minus energy per byte |\n|---|---|---:|---|---|---|---|---|\n"
    )
    return ["#### Differences of cuts", intro, head + "\n".join(lines), _pooled(rows)]


def _pooled(rows: dict[tuple[str, int], dict[str, dict[int, float]]]) -> str:
    """Return claim (a) over the texts and sizes together, with the seeds as clusters."""
    first, second = PAIRS["a"]
    found = [of_arm for (task, _), of_arm in rows.items() if task in TEXTS]
    seeds = set.intersection(*({*each[first]} for each in found))
    together = paired([_mean([each[first][seed] - each[second][seed] for each in found])
                       for seed in sorted(seeds)])  # fmt: skip
    return (
        "Looked at afterwards: over the texts and the three sizes together, with the seeds as "
        f"clusters, energy per byte minus one rank is {interval(together)} (p {together.p:.2g}, "
        "not adjusted)."
    )


def _losses(rows: dict[tuple[str, int], dict[str, dict[int, float]]]) -> list[str]:
    arms = (WITHOUT, UNCUT, *CHOICES, TRAINED)
    lines = [
        _row_start(task, size) + "".join(f" {_mean(of_arm[arm].values()):.4f} |" for arm in arms)
        for (task, size), of_arm in rows.items()
    ]
    return [
        "#### Losses",
        "| task | cut to | no adapter | rank 16, not cut | one rank | energy per byte | energy "
        "| equal energy | trained at that size |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|\n" + "\n".join(lines),
    ]


def _energy(
    rows: dict[tuple[str, int], dict[str, dict[int, float]]], plan: Plan, outcomes: Outcomes
) -> list[str]:
    """Return what cuts lose of the energy, beside what they lose of the gain of the adapter."""
    lines = []
    for (task, size), of_arm in rows.items():
        line = _row_start(task, size)
        for choice in CHOICES:
            runs = [outcomes[plan.test(task, WHOLE, seed, outcomes)] for seed in of_arm[choice]]
            kept = [each.energy for run in runs for each in run.cuts
                    if (each.size, each.choice) == (size, choice)]  # fmt: skip
            gain = [
                (loss - of_arm[UNCUT][seed]) / (of_arm[WITHOUT][seed] - of_arm[UNCUT][seed])
                for seed, loss in of_arm[choice].items()
            ]
            line += f" {1 - _mean(kept):.1%} | {_mean(gain):.1%} |"
        lines.append(line)
    names = ("one rank", "energy per byte", "energy", "equal energy")
    return [
        "#### What a cut loses",
        "Of the energy, and of the gain: from the loss without an adapter to that of rank 16.",
        "| task | cut to | " + " | ".join(f"{each}: energy | gain" for each in names) + " |\n"
        "|---|---|" + "---:|" * (2 * len(names)) + "\n" + "\n".join(lines),
    ]


def _row_start(task: str, size: int) -> str:
    return f"| {label(task)} | {PARTS[size]}, rank {size} |"


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)
