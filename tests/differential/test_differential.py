"""The contract calls exactly the configurations errors that fail in the runtime it is asked about.

`tools/differential.py` runs as many as you like, and makes what it finds smaller.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from contract_corpus import CORPUS, unpacked
from differential import drawing, drawing_lora, fixes, listed, peft_runs
from differential.cases import Case
from differential.judging import RUNNERS, judge

from adalora_core.checker.rules import RULES
from adalora_core.config.fields.table import FIELDS
from adalora_core.config.rules.base import SOUND, SOUND_LORA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adalora_core.config.fields.table import Runtime

    Draws = Callable[[int, int], Iterator[Case]]

NEW = int(f"{dt.datetime.now(tz=dt.UTC):%Y%m%d}") * 1000
"""The first seed of the day."""


DRAWS = [
    ("adalora", "peft", drawing.draws),
    ("adalora", "adalora-core", drawing.draws),
    ("lora", "peft", drawing_lora.draws),
]
"""The method, who trains it, and what draws configurations."""
PARAMETERS = [pytest.param(*each[1:], id="-".join(each[:2])) for each in DRAWS]
drawn = pytest.mark.parametrize(("runtime", "draws"), PARAMETERS)


def _unlisted(
    runtime: Runtime, first: int, count: int, draws: Draws
) -> tuple[list[str], Counter[str]]:
    """Return the disagreements that are not listed, and how often each entry of the list occurs."""
    found: list[str] = []
    entries: Counter[str] = Counter()
    for seed, case in enumerate(draws(first, count), first):
        each = judge(case, runtime)
        if each.disagreement is None:
            continue
        entry = listed.entry_of(each)
        if entry is None:
            found.append(f"seed {seed}: {each.disagreement}: {case.changes}: {each.outcome}")
        else:
            entries[entry["name"]] += 1
    return found, entries


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "draws"), PARAMETERS[:1])
def test_drawn_configurations_are_errors_exactly_where_the_runtime_fails(
    runtime: Runtime, draws: Draws
) -> None:
    assert _unlisted(runtime, 0, 300, draws)[0] == []


@pytest.mark.nightly
@pytest.mark.parametrize("runtime", RUNNERS)
def test_many_drawn_configurations_are_judged_right_and_every_entry_of_the_list_occurs(
    runtime: Runtime,
) -> None:
    found, entries = [], Counter[str]()
    for draws in (draws for _, each, draws in DRAWS if each == runtime):
        unlisted, listed_ones = _unlisted(runtime, 0, 1500, draws)
        found += unlisted
        entries += listed_ones
    assert found == []
    names = {each["name"] for each in listed.LISTED if runtime in each["runtimes"]}
    assert set(entries) == names, "remove the entries that no configuration needs any more"


@pytest.mark.nightly
@drawn
def test_configurations_drawn_today_are_judged_right(runtime: Runtime, draws: Draws) -> None:
    assert _unlisted(runtime, NEW, 400, draws)[0] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({}, "runs"),
        ({"total_step": None}, "construct"),
        ({"peft_type": "LORA"}, "construct"),
        ({"target_modules": ["nope"]}, "inject"),
        ({"deltaT": 0}, "step"),
        ({"init_r": 8}, "step"),
        ({"orth_reg_weight": 1e39, "task_type": "CAUSAL_LM"}, "step"),
        ({"target_r": 0}, "end"),
        ({"tfinal": 0}, "reload"),
    ],
)
def test_runner_names_the_part_of_the_run_that_fails(changes: dict[str, Any], stage: str) -> None:
    # Otherwise the tests above could pass because the runner notices nothing.
    outcome = peft_runs.run(Case("llama", "training", SOUND, tuple(changes.items())))
    assert outcome.stage.split()[0] == stage, outcome


BY_NAME = {"ADA513"}
"""Rules on the model that a configuration names; no base here has a published name."""
FIXABLE = [
    rule
    for rule in RULES
    if rule.code not in BY_NAME
    and isinstance(rule.bad, dict)
    and (rule.safe_fix or rule.unsafe_fix)
]


@pytest.mark.slow
@pytest.mark.parametrize("rule", FIXABLE, ids=lambda rule: rule.code)
def test_fix_of_a_bad_example_removes_the_failure(rule: Any) -> None:
    values = dict(rule.bad) | {"inference_mode": False, "rank_pattern": None}
    assert list(fixes.faults_left(fixes.for_some_base(values))) == []


@pytest.mark.slow
def test_fix_of_a_real_configuration_removes_the_failure() -> None:
    found = []
    for entry in CORPUS:
        values = unpacked(entry["content"])
        # Of a mapping with prefixed keys the check judges the part that they make.
        is_plain = isinstance(values, dict) and not any(k.startswith("adalora_") for k in values)
        if is_plain and FIELDS.keys() & values.keys():
            # Without its weights the configuration of a saved adapter is one for training.
            values |= {"peft_type": "ADALORA", "inference_mode": False, "rank_pattern": None}
            found += fixes.faults_left(fixes.for_some_base(values))
    assert found == []


@pytest.mark.nightly
def test_fix_of_a_drawn_configuration_removes_the_failure() -> None:
    found = []
    for seed, case in enumerate(drawing.draws(0, 300)):
        # A fix does not see the weights of a saved adapter, which other targets do not fit.
        if case.kind == "training" or case.fields.isdisjoint({"target_modules", "init_r"}):
            found += [f"seed {seed}: {each}" for each in fixes.faults_left(case)]
    assert found == []


LORA_STAGES = {
    "runs": {"use_dora": True},
    "construct": {"task_type": "CAUSALLM"},
    "inject": {"r": 0},
    "step": {"lora_alpha": float("nan")},
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", LORA_STAGES)
def test_runner_names_the_part_of_a_run_of_lora_that_fails(stage: str) -> None:
    case = Case("llama", "training", SOUND_LORA, tuple(LORA_STAGES[stage].items()))
    outcome = peft_runs.run(case)
    assert outcome.stage.split()[0] == stage, outcome


def test_every_field_is_drawn() -> None:
    assert drawing.fields_drawn() == frozenset(FIELDS)


def test_list_of_disagreements_is_short_and_every_entry_has_a_reason() -> None:
    assert 0 < len(listed.LISTED) <= listed.MOST
    assert len({each["name"] for each in listed.LISTED}) == len(listed.LISTED)
    for each in listed.LISTED:
        assert each["reason"].endswith("."), each["name"]
        assert set(each["fields"]) <= FIELDS.keys(), each["name"]
        assert set(each["runtimes"]) <= RUNNERS.keys(), each["name"]
