"""Answer what people ask of the studies in docs/evidence.md, and draw its picture."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from rank_evidence import RESULTS, ROOT, more_parameters, percent  # sets the path of the studies

# isort: split
from claims import PAIRS, comparisons, differences, doubling_gain, in_parameters, pooled
from intervals import paired, quantile
from runs import Outcomes, Plan, best_try
from studies import STUDIES, minutes, outcomes_of, reading, shares
from study_tables import interval
from tasks import TASKS

if TYPE_CHECKING:
    from claims import Comparison
    from intervals import Interval
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from studies import Reading, Study

PICTURE = ROOT / "docs" / "rank-study.png"
POWER = 0.9
SERIES = {
    "c": ("ranks of AdaLoRA in a fresh LoRA", "#009e73", "D"),
    "a": ("AdaLoRA, LoRA's start", "#0072b2", "s"),
}
"""Claims of the picture: what its legend calls them, colour and mark."""


def answers() -> str:
    """Return the first screen of the page: one question, one answer, one number a line."""
    plan, outcomes = Plan(), Outcomes(RESULTS)
    own, start, ranks = (pooled(plan, outcomes, *arms) for _, *arms in PAIRS[:3])
    reach = {
        name: _reach(each.share) for name, each in zip("asr", (own, start, ranks), strict=True)
    }
    scored, halved = _answered("in-parameters"), _answered("half-rate")
    times = [
        math.exp(each.interval.mean)
        for each in comparisons(plan, outcomes)
        if each.claim == "f" and each.interval
    ]
    fading = ", ".join(
        f"{interval(found)} in {steps:,}" for steps, found in _lengths(plan, outcomes, "code")
    )
    rows = {
        "Is it better than LoRA?": f"A little, in short runs. After 300 steps LoRA needs "
        f"**{more_parameters(own)}** more parameters ({reach['a']}) to reach the loss of AdaLoRA "
        f"that is started [like LoRA](training.md#start-like-lora). AdaLoRA is ahead on "
        f"{own.tasks[0]} of {own.tasks[1]} tasks, in {own.pairs[0]} of {own.pairs[1]} pairs of "
        f"runs with the same seed. On {', '.join(_behind(plan, outcomes))} it is behind.",
        "How much are its ranks worth?": "LoRA with the same rank everywhere needs "
        f"**{more_parameters(ranks)}** more parameters ({reach['r']}) to reach the loss of a new "
        f"LoRA with AdaLoRA's ranks. The new one is ahead on {ranks.tasks[0]} of {ranks.tasks[1]} "
        f"tasks, in {ranks.pairs[0]} of {ranks.pairs[1]} pairs. The steps that found the ranks "
        "are not counted.",
        "Is there a better score?": f"On the two tasks that were tried, yes: [`per-parameter`]"
        "(training.md#other-scores) divides the score of a triplet (what one unit of rank consists "
        "of) by its parameters, and counts the budget in parameters. LoRA needs "
        f"**{_more(scored)}** more parameters ({_reach(scored)}) to reach its loss in 300 steps. "
        "One test, [planned before](../benchmarks/studies/tables.md#studies-of-one-question), "
        "asked whether the "
        f"gain is above 7 %: {_verdict('in-parameters')}. It is not the default, since PEFT has no "
        "such score.",
        "Which learning rate?": "Half the rate [until the last triplet is dropped]"
        "(training.md#half-the-learning-rate-first), then all of it: AdaLoRA at the whole rate "
        f"throughout needs **{_more(halved)}** more parameters ({_reach(halved)}) for the same "
        "loss, in 300 steps of three tasks. One planned test asked whether it gains at all: "
        f"{_verdict('half-rate')}. {_edges('half-rate').capitalize()}.",
        "For how long?": f"It seems to fade; one task was run for longer. From Python to C++ the "
        f"loss of AdaLoRA minus that of LoRA (in nats per byte, 95 % interval) is {fading} steps. "
        "At 3,000 the learning rates were not tuned anew, which may explain it as well.",
        "Do its ranks serve other runs?": "On the one task that was tried, yes: ranks averaged "
        "over eight runs of 300 steps went to new LoRAs on four other seeds. The same rank "
        f"everywhere needs {_carried()} for the same loss, each length with its own learning "
        "rates. One planned test pooled the three lengths and asked whether they gain: "
        f"{_verdict('averaged')}. The eight runs are not counted.",
        "At what cost?": f"On a CPU **{min(times):.1f} to {max(times):.1f}** times the processor "
        "time of PEFT's LoRA, since the compiled ops are faster than PEFT's. While it chooses, it "
        "holds three times the rank that it keeps ([memory](status.md#what-memory-is-held)).",
        "Which start?": "Like LoRA, whose B begins at 0. The start of PEFT's AdaLoRA needs "
        f"**{more_parameters(start)}** more parameters ({reach['s']}) for the same loss, on "
        f"{start.tasks[0]} of {start.tasks[1]} tasks. It might do better with lora_alpha above 8 "
        "times the rank: 8 was the largest that was tried, at one learning rate alone. Since this "
        f"is more than the {more_parameters(own)} above, AdaLoRA as PEFT starts it is probably "
        "behind LoRA.",
        "What was not tried?": "Language models above **1.9 million** parameters and encoders "
        "above 22.7 million, more than 3,000 steps, training on a GPU, other adapters.",
    }
    table = "| question | answer |\n|---|---|\n" + "\n".join(
        f"| {question} | {answer} |" for question, answer in rows.items()
    )
    return f"{table}\n\n{_planned(plan, outcomes)}"


def _planned(plan: Plan, outcomes: Outcomes) -> str:
    """Return what the planned test says of the same, and what it could have seen."""
    found = comparisons(plan, outcomes)
    own, start, ranks = (more_parameters(pooled(plan, outcomes, *arms)) for _, *arms in PAIRS[:3])
    seen = [_visible(plan, outcomes, each, len(found)) for each in found
            if each.claim in "ac" and each.block.steps == 300]  # fmt: skip
    return (
        f"**The planned tests show less.** {len(found)} comparisons were tested under Holm's "
        "correction with eight seeds, also of lengths, starts and the place of ranks. "
        f"That AdaLoRA beats LoRA was {_counts('a', found)}; that a new LoRA with its ranks does, "
        f"was {_counts('c', found)}. Such a comparison finds "
        f"a gain with a probability of 90 % only if the gain is worth {100 * min(seen):.0f} to "
        f'{100 * max(seen):.0f} % of the parameters, so "nothing shown" does not mean that nothing '
        f"is there. **The {own}, {ranks} and {start} above pool "
        "the four tasks, and were computed afterwards**, when the results were known: read them as "
        "the best guess, and not as a proof. All intervals hold for other seeds of these tasks "
        "and lengths, and not for others."
    )


def _behind(plan: Plan, outcomes: Outcomes) -> list[str]:
    """Return the texts on which AdaLoRA is behind in 300 steps."""
    return [
        TASKS[each.block.task].label
        for each in comparisons(plan, outcomes)
        if each.claim == "a" and each.block.steps == 300 and each.interval
        if each.interval.mean > 0
    ]


def _counts(claim: str, found: list[Comparison]) -> str:
    tests = [each for each in found if each.claim == claim and each.matters]
    text = f"shown in {sum(each.holds for each in tests)} of {len(tests)} comparisons"
    worse = sum(each.fails for each in tests)
    return f"{text} and the contrary in {worse}" if worse else text


def _visible(plan: Plan, outcomes: Outcomes, each: Comparison, tests: int) -> float:
    """Return the smallest gain, in parameters, that a comparison shows with a power of POWER."""
    found = differences(each, plan, outcomes)
    freedom, error = len(found) - 1, statistics.stdev(found) / math.sqrt(len(found))
    reach = error * (quantile(1 - 0.05 / tests, freedom) + quantile(2 * POWER - 1, freedom))
    return in_parameters(reach / doubling_gain(plan, outcomes, each.block))


def _answered(name: str) -> Interval:
    """Return the gain of a study of one question, as a share of that of the doubled rank."""
    found = reading(STUDIES[name], outcomes_of(name))
    if found is None:
        raise SystemExit(f"rank_answers: the study {name!r} has runs that are missing")
    return found.interval


def _verdict(name: str) -> str:
    """Return "yes" or "not shown", as the one test of a study decided."""
    found = reading(STUDIES[name], outcomes_of(name))
    return "yes" if found is not None and found.lower > STUDIES[name].bound else "not shown"


def _carried() -> str:
    """Say for each length how many parameters averaged ranks are worth on other seeds."""
    study, outcomes = STUDIES["averaged"], outcomes_of("averaged")
    found = []
    for block in study.blocks:
        runs = [study.plan.test(block, arm, study.seeds[0], outcomes) for arm in study.gain]
        small, large = (outcomes[each].parameters for each in runs)
        share = paired(shares(replace(study, blocks=(block,)), outcomes, study.weights))
        mean, low, high = (
            100 * ((large / small) ** each - 1) for each in (share.mean, share.low, share.high)
        )
        found.append(f"**{mean:.0f} %** more parameters in {block.steps:,} steps "
                     f"(95 % interval {low:.0f} to {high:.0f} %)")  # fmt: skip
    return f"{', '.join(found[:-1])} and {found[-1]}"


def _more(share: Interval) -> str:
    return f"{100 * in_parameters(share.mean):.0f} %"


def _reach(share: Interval) -> str:
    low, high = (in_parameters(each) for each in (share.low, share.high))
    return f"95 % interval {100 * low:.0f} to {100 * high:.0f} %"


def _lengths(plan: Plan, outcomes: Outcomes, task: str) -> list[tuple[int, Interval]]:
    """Return the steps, and by how much AdaLoRA differs from LoRA of as many parameters."""
    blocks = {each.steps: each for each in plan.blocks if each.task == task and "even" in each.arms}
    found = []
    for steps, block in blocks.items():
        pairs = [
            [outcomes[plan.test(block, arm, seed, outcomes)].loss for arm in ("wide", "even")]
            for seed in plan.seeds
        ]
        found.append((steps, paired([one - other for one, other in pairs])))
    return found


def words() -> str:
    """Return what other pages say in a sentence."""
    plan, outcomes = Plan(), Outcomes(RESULTS)
    own = more_parameters(pooled(plan, outcomes, *PAIRS[0][1:]))
    scored = _more(_answered("in-parameters"))
    return (
        f"AdaLoRA reaches the loss of a LoRA with {own} more parameters, or {scored} more with a "
        "score per parameter"
    )


def questions() -> str:
    """Return the studies of one question: their plans, and the answers of those that are whole."""
    rows = []
    for name, study in STUDIES.items():
        found = reading(study, outcomes_of(name))
        low, high = study.expected
        rows.append(
            f"| {study.question} | above {100 * study.bound:.0f} % "
            f"| {100 * low:.0f} to {100 * high:.0f} % "
            f"| {minutes(study):.0f} | {_answer(name, study, found)} |"
        )
    return (
        "| question and test | yes, if the lower bound is | expected | minutes | answer |\n"
        "|---|---|---|---:|---|\n" + "\n".join(rows)
    )


def _answer(name: str, study: Study, found: Reading | None) -> str:
    if found is None:
        return "none: not all runs are made"
    text = f"{_verdict(name)}: {percent(found.interval)}, lower bound {100 * found.lower:.0f} %"
    for (one, other), each in zip(study.beside, found.beside, strict=True):
        text += f"; beside it `{one}` over `{other}` {percent(each)}"
    is_tuned = any(study.plan.tuning(each, arm) for each in study.blocks for arm in each.arms)
    return f"{text}; {_edges(name) if is_tuned else 'its learning rates are those of found ranks'}"


def _edges(name: str) -> str:
    """Say on how many tasks the best learning rate of an arm is the lowest or highest tried."""
    study, outcomes = STUDIES[name], outcomes_of(name)
    tuned = [
        (each, {job.learning_rate for job in study.plan.tuning(each, arm)}, arm)
        for each in study.blocks
        for arm in each.arms
        if arm in study.weights and study.plan.tuning(each, arm)
    ]
    at_edge = sum(
        best_try(block, arm, outcomes)[0] in {min(rates), max(rates)} for block, rates, arm in tuned
    )
    return (
        "the best learning rate was at an edge of what was tried on "
        f"{at_edge} of {len(tuned)} tasks"
    )


def draw() -> Figure:
    """Draw the gain on each text, and how it fades with the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    texts, steps = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_texts(texts)
    _draw_steps(steps)
    return figure


def _draw_texts(axes: Axes) -> None:
    """Draw the share of each text and of all, for two claims."""
    plan, outcomes = Plan(), Outcomes(RESULTS)
    for offset, (claim, (name, colour, mark)) in zip((-0.13, 0.13), SERIES.items(), strict=True):
        of_claim = [each for each in comparisons(plan, outcomes)
                    if each.claim == claim and each.block.steps == 300]  # fmt: skip
        arms = next(arms for of, *arms in PAIRS if of == claim)
        found = [("all four", pooled(plan, outcomes, *arms).share)]
        for each in reversed(of_claim):
            gain = doubling_gain(plan, outcomes, each.block)
            share = paired([-value / gain for value in differences(each, plan, outcomes)])
            found.append((TASKS[each.block.task].label, share))
        for place, (_, each) in enumerate(found):
            axes.errorbar(
                100 * each.mean,
                place + offset,
                xerr=100 * (each.high - each.mean),
                fmt=mark,
                color=colour,
                capsize=3,
                label=name if place == 0 else None,
            )
        axes.set_yticks(range(len(found)), [label for label, _ in found])
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xlabel("gain over LoRA of as many parameters, in % of that of LoRA from rank 4 to 8")
    axes.set_title("300 steps; 95 % intervals over eight seeds", fontsize=10)
    axes.legend(loc="upper left", fontsize=8)


def _draw_steps(axes: Axes) -> None:
    """Draw the difference of AdaLoRA and LoRA over the length of the run."""
    plan, outcomes = Plan(), Outcomes(RESULTS)
    for task, colour, mark in (("code", "#0072b2", "s"), ("languages", "#d55e00", "^")):
        found = _lengths(plan, outcomes, task)
        axes.errorbar(
            [steps for steps, _ in found],
            [each.mean for _, each in found],
            yerr=[each.high - each.mean for _, each in found],
            fmt=f"{mark}-",
            color=colour,
            capsize=3,
            label=TASKS[task].label,
        )
    axes.axhline(0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([300, 1000, 3000], ["300", "1,000", "3,000"])
    axes.minorticks_off()
    axes.set_xlabel("steps of training")
    axes.set_ylabel("loss of AdaLoRA minus that of LoRA,\nnats per byte; below 0 is better")
    axes.set_title("The gain fades", fontsize=10)
    axes.legend(loc="lower right", fontsize=8)
