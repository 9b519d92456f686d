"""Make the results of the first study in benchmarks/studies/tables.md, and their picture."""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "benchmarks" / "studies" / "allocation"
sys.path.insert(0, str(STUDY))

from intervals import CONFIDENCE, Interval, holm, paired  # noqa: E402 - found on the path set above
from jobs import AFTERWARDS, AGAIN, ARMS, SWEPT_ARMS, SWEPT_SCALES, Plan, tries  # noqa: E402 - same
from results import Results  # noqa: E402 - same
from study_tables import edge, interval  # noqa: E402 - same

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure
    from results import Job, Outcome

    Expected = Literal["zero in the interval", "nothing shown", "anything"]

RESULTS = STUDY / "results.jsonl"
SOURCES = RESULTS, Path(__file__)
PICTURE = ROOT / "docs" / "evidence.png"
COMPARISONS = (
    ("sensitivity", "lora", 0.02, "zero in the interval"),
    ("sensitivity", "random", 0.01, "nothing shown"),
    ("sensitivity", "magnitude", math.inf, "nothing shown"),
    ("sensitivity", "snr", math.inf, "nothing shown"),
    ("retrained", "lora", math.inf, "nothing shown"),
    ("never", "sensitivity", 0.01, "anything"),
)
"""Pairs of arms; expected, before the first run, were a difference below a limit and a result."""
REFERENCE_SCALE = 2.0
EXPECTED_LOSS = 0.02
STAGES = {"tune": "tuning", "test": "test", "after": "later", "again": "repeated test"}
NOT_SHOWN = "no difference shown"
ARM_NOTE = (
    "Edge: the smallest or the largest learning rate that was tried at this scale, or such a "
    "scale; the arm may be better beyond. LoRA with AdaLoRA's ranks needs a run of AdaLoRA first, "
    "which its steps and CPU seconds contain. The last column is the tuning and the tests of the "
    "arm alone."
)

LATER_NOTE = (
    "the two arms below were tried at larger scales too, and AdaLoRA at a smaller learning rate. "
    "Each line is one run on the development split, without an interval. Nothing above was chosen "
    "by it."
)


@dataclass(frozen=True)
class Comparison:
    """The difference of two arms on one data set."""

    data: str
    first: str
    second: str
    limit: float
    expected: Expected
    seeds: int
    spearman: Interval
    accuracy: Interval
    adjusted: float = 1.0

    @property
    def verdict(self) -> str:
        """The difference that the adjusted p-value allows to claim."""
        if self.adjusted > 1 - CONFIDENCE:
            return NOT_SHOWN
        return "first is higher" if self.spearman.mean > 0 else "first is lower"

    @property
    def as_expected(self) -> bool:
        """Whether the mean is within the limit, and the study says of it what was expected."""
        said = {
            "zero in the interval": self.spearman.low <= 0 <= self.spearman.high,
            "nothing shown": self.verdict == NOT_SHOWN,
            "anything": True,
        }
        return abs(self.spearman.mean) < self.limit and said[self.expected]


def comparisons(plan: Plan, results: Results, data: str) -> list[Comparison]:
    """Return the planned comparisons of which at least two seeds are there."""
    found = []
    for first, second, limit, expected in COMPARISONS:
        pairs = _pairs(_tests(plan, results, data, first), _tests(plan, results, data, second))
        if len(pairs) > 1:
            spearman = paired([one.spearman - other.spearman for one, other in pairs])
            accuracy = paired([one.accuracy - other.accuracy for one, other in pairs])
            found.append(
                Comparison(data, first, second, limit, expected, len(pairs), spearman, accuracy)
            )
    adjusted = holm([each.spearman.p for each in found])
    return [replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True)]


def _tests(
    plan: Plan, results: Results, data: str, arm: str, scale: float | None = None
) -> dict[int, Outcome]:
    """Return the test outcomes of an arm by seed, at the tuned scale or at another."""
    jobs = [plan.test(data, arm, seed, results) for seed in plan.test_seeds]
    wanted: Iterable[Job] = (
        job if scale is None else replace(job, scale=scale) for job in jobs if job
    )
    return {job.seed: results[job] for job in wanted if job in results}


def _pairs(first: dict[int, Outcome], second: dict[int, Outcome]) -> list[tuple[Outcome, Outcome]]:
    return [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]


def block() -> str:
    """Return the written part of the page."""
    plan, results = Plan(), Results(RESULTS)
    parts = [*_answers(plan, results), _state(plan, results)]
    for data in plan.data:
        parts += _data_part(comparisons(plan, results, data), data)
        parts += _arm_part(plan, results, data)
    parts += _sweep_part(plan, results)
    parts += _later_part(plan, results)
    parts.append("![Differences of arms, and correlation by scale](../../docs/evidence.png)")
    return "\n\n".join(parts)


def _answers(plan: Plan, results: Results) -> list[str]:
    """Return the answer to the question of the page, one sentence for each set."""
    return [
        f"**On {each.data}, AdaLoRA's correlation minus LoRA's is {interval(each.spearman, 3)} "
        f"over {each.seeds} seeds: {each.verdict.replace('first', 'AdaLoRA')} (p after Holm's "
        f"correction for six comparisons: {each.adjusted:.2g}).**"
        for data in plan.data
        for each in comparisons(plan, results, data)
        if (each.first, each.second) == COMPARISONS[0][:2]
    ]


def _state(plan: Plan, results: Results) -> str:
    """Return how much of the plan is there, and on what it ran."""
    done = [each for each in results if each.job in plan]
    have = Counter((each.job.data, each.job.stage) for each in done)
    missing = [
        f"{count - have[data, stage]} of {count} {STAGES[stage]} runs on {data}"
        for data in plan.data
        for stage, count in plan.counts(data).items()
        if have[data, stage] < count
    ]
    text = f"{len(done)} of {len(plan)} runs are done."
    if missing:
        text += f" **The study is incomplete.** Missing: {'; '.join(missing)}."
    if done:
        minutes = sum(each.cpu_seconds for each in done) / 60
        machines = Counter(each.machine for each in done)
        text += f" Cost so far: {minutes:.0f} minutes of one processor, on "
        text += "; ".join(f"{name} ({count} runs)" for name, count in machines.items()) + "."
    return text


def _data_part(found: list[Comparison], data: str) -> list[str]:
    """Return the comparisons on one set, those that show nothing first."""
    if not found:
        return []
    null = [each for each in found if each.verdict == NOT_SHOWN]
    halves = [(each.spearman.high - each.spearman.low) / 2 for each in found]
    reach = (
        f"The intervals reach {min(halves):.3f} to {max(halves):.3f} to either side: smaller "
        "differences cannot be seen here."
    )
    rows = [
        f"| {ARMS[each.first]} minus {ARMS[each.second]} | {each.seeds} "
        f"| {interval(each.spearman, 3)} | {each.adjusted:.2g} "
        f"| {interval(each.accuracy, 3)} | {each.verdict} "
        f"| {'yes' if each.as_expected else 'no'} |"
        for each in sorted(found, key=lambda each: each.verdict != NOT_SHOWN)
    ]
    return [
        f"#### Comparisons on {data}",
        f"{len(null)} of {len(found)} comparisons show no difference. {reach}",
        "| comparison | seeds | correlation, with 95 % interval | p after Holm "
        "| accuracy, with 95 % interval | result | as expected |\n|---|---:|---|---:|---|---|---|\n"
        + "\n".join(rows),
    ]


def _arm_part(plan: Plan, results: Results, data: str) -> list[str]:
    """Return the arms on one set: what tuning chose, means, and costs."""
    rows = []
    for arm, label in ARMS.items():
        best = plan.best(data, arm, results)
        tests = list(_tests(plan, results, data, arm).values())
        if best is None or not tests:
            continue
        own = [*tests, *(results[job] for job in plan.tuning(data, arm))]
        mark = edge((best.learning_rate, best.scale), tries(arm))
        first = list(_tests(plan, results, data, "sensitivity").values())
        needs = first if arm == "retrained" else []
        rows.append(
            f"| {label} | {best.learning_rate:g}, {best.scale:g}{mark} "
            f"| {len(tests)} "
            f"| {_spread([each.spearman for each in tests])} "
            f"| {_spread([each.accuracy for each in tests])} "
            f"| {tests[0].triplets} | {statistics.fmean(each.parameters for each in tests):,.0f} "
            f"| {tests[0].steps + (needs[0].steps if needs else 0)} "
            f"| {_seconds(tests) + (_seconds(needs) if needs else 0):.1f} "
            f"| {sum(each.cpu_seconds for each in own):.0f} in {len(own)} runs |"
        )
    if not rows:
        return []
    return [
        f"#### Arms on {data}",
        "| arm | tuned learning rate, scale | seeds | correlation (deviation) "
        "| accuracy (deviation) | triplets | parameters | steps | CPU seconds | all, with tuning |"
        "\n|---|---|---:|---|---|---:|---:|---:|---:|---:|\n" + "\n".join(rows),
        ARM_NOTE,
        *_times(plan, results, data),
    ]


def _times(plan: Plan, results: Results, data: str) -> list[str]:
    """Return expectation 7 beside what was measured."""
    runs = [
        _tests(plan, results, data, arm).values() for arm in ("lora", "sensitivity", "retrained")
    ]
    if not all(runs):
        return []
    plain, ours, again = map(_seconds, runs)
    text = (
        f"Processor time in times of LoRA's: AdaLoRA {ours / plain:.2f} (expected: 1 to 1.1); "
        f"finding ranks and training again {(ours + again) / plain:.2f} (expected: about 2)."
    )
    return [text]


def _sweep_part(plan: Plan, results: Results) -> list[str]:
    """Return the correlation at each scale, and the difference to the reference scale."""
    rows, lost = [], dict.fromkeys(SWEPT_ARMS, math.nan)
    for arm, scale in product(SWEPT_ARMS, SWEPT_SCALES):
        runs = _tests(plan, results, plan.data[0], arm, scale)
        pairs = _pairs(runs, _tests(plan, results, plan.data[0], arm, REFERENCE_SCALE))
        if len(pairs) < 2:
            continue
        best = plan.best(plan.data[0], arm, results)
        difference = [one.spearman - other.spearman for one, other in pairs]
        if scale == SWEPT_SCALES[0]:
            lost[arm] = -statistics.fmean(difference)
        rows.append(
            f"| {ARMS[arm]} | {best.learning_rate if best else 0:g} | {scale:g} | {len(pairs)} "
            f"| {_spread([each.spearman for each in runs.values()])} "
            f"| {'' if scale == REFERENCE_SCALE else interval(paired(difference), 3)} |"
        )
    if not rows:
        return []
    text = (
        f"At scale {SWEPT_SCALES[0]:g} LoRA loses {lost['lora']:.3f} and AdaLoRA "
        f"{lost['sensitivity']:.3f}. Expected were losses above {EXPECTED_LOSS:g}, AdaLoRA's the "
        f"larger: {'yes' if lost['sensitivity'] > lost['lora'] > EXPECTED_LOSS else 'no'}."
    )
    return [
        f"#### Scales on {plan.data[0]}",
        f"| arm | learning rate | scale | seeds | correlation (deviation) | minus scale "
        f"{REFERENCE_SCALE:g}, with 95 % interval |\n|---|---:|---:|---:|---|---|\n"
        + "\n".join(rows),
        text,
    ]


def _later_part(plan: Plan, results: Results) -> list[str]:
    """Return all tries of the arms that were tried again, each with one run."""
    rows = []
    for arm in AFTERWARDS:
        planned, later = plan.tuning(plan.data[0], arm), plan.afterwards(arm)
        if not all(job in results for job in [*planned, *later]):
            continue
        best = max(results[job].spearman for job in [*planned, *later])
        rows += [
            f"| {ARMS[arm]} | {job.learning_rate:g} | {job.scale:g} "
            f"| {results[job].spearman:.3f}{' (best)' if results[job].spearman == best else ''} "
            f"| {'yes' if job.stage == 'tune' else 'no'} |"
            for job in sorted([*planned, *later], key=lambda job: (job.scale, job.learning_rate))
        ]
    if not rows:
        return []
    return [
        "#### Looked at afterwards",
        f"Not planned: when the results on {plan.data[0]} were known, {LATER_NOTE}",
        "| arm | learning rate | scale | correlation on the development split | planned |\n"
        "|---|---:|---:|---:|---|\n" + "\n".join(rows),
        *_again(plan, results),
    ]


def _again(plan: Plan, results: Results) -> list[str]:
    """Return AdaLoRA with the best of all tries beside LoRA with the best of all of its own."""
    data, other = plan.data[0], "lora"
    best = plan.best_of_all(AGAIN, results)
    if best is None or plan.best_of_all(other, results) != plan.best(data, other, results):
        return []
    jobs = [replace(best, stage="again", seed=seed) for seed in plan.test_seeds]
    again = {job.seed: results[job] for job in jobs if job in results}
    pairs = _pairs(again, _tests(plan, results, data, other))
    if len(pairs) < 2:
        return []
    difference = paired([one.spearman - against.spearman for one, against in pairs])
    with_best = f"learning rate {best.learning_rate:g}, scale {best.scale:g}"
    text = (
        f"With the best of these tries ({with_best}) AdaLoRA was tested again: its correlation "
        f"minus LoRA's is {interval(difference, 3)} over {len(pairs)} seeds. LoRA's best try is "
        "the planned one."
    )
    return [text]


def _spread(values: Sequence[float]) -> str:
    deviation = f" ({statistics.stdev(values):.3f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{deviation}"


def _seconds(outcomes: Iterable[Outcome]) -> float:
    return statistics.fmean(each.cpu_seconds for each in outcomes)


def draw() -> Figure:
    """Draw the differences with their intervals, and the correlation by scale."""
    from matplotlib.figure import Figure

    plan, results = Plan(), Results(RESULTS)
    figure = Figure(figsize=(11, 4))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    pairs = [(first, second) for first, second, *_ in COMPARISONS]
    for offset, data in enumerate(plan.data):
        found = comparisons(plan, results, data)
        places = [pairs.index((each.first, each.second)) for each in found]
        means = [each.spearman.mean for each in found]
        errors = [mean - each.spearman.low for mean, each in zip(means, found, strict=True)]
        rows = [place + 0.25 * offset for place in places]
        left.errorbar(means, rows, xerr=errors, fmt="oD"[offset], capsize=3, label=data)
    labels = [f"{ARMS[first]}\nminus {ARMS[second]}" for first, second in pairs]
    left.set_yticks(range(len(labels)), labels, fontsize=8)
    left.axvline(0, color="black", linewidth=0.8)
    left.invert_yaxis()
    left.set_xlabel("difference of Spearman's correlation, 95 % interval")
    left.legend()
    for arm, mark in zip(SWEPT_ARMS, "oD", strict=True):
        runs = {
            scale: [
                each.spearman for each in _tests(plan, results, plan.data[0], arm, scale).values()
            ]
            for scale in SWEPT_SCALES
        }
        shown = {scale: values for scale, values in runs.items() if values}
        means = [statistics.fmean(values) for values in shown.values()]
        (line,) = right.plot(list(shown), means, marker=mark, label=ARMS[arm])
        for scale, values in shown.items():
            right.plot([scale] * len(values), values, mark, color=line.get_color(), markersize=2)
    right.set_xscale("log", base=2)
    right.set_xticks(SWEPT_SCALES, [f"{scale:g}" for scale in SWEPT_SCALES])
    right.set_xlabel(f"scale, on {plan.data[0]}; small: single seeds")
    right.set_ylabel("Spearman's correlation")
    right.legend()
    figure.tight_layout()
    return figure
