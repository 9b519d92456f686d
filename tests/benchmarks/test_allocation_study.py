"""The study of the allocation: its plan, its statistics, and its page."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("study_modules")


def test_interval_is_that_of_a_textbook() -> None:
    from intervals import paired

    # Student's sleep data (1908): extra sleep after the second drug minus the first, ten patients.
    found = paired([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert found.mean == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858))
    assert found.p == pytest.approx(0.002832890)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622)]
)
def test_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    from intervals import quantile

    assert quantile(0.95, freedom) == pytest.approx(expected, abs=1e-4)


def test_interval_without_spread_is_a_point_and_one_difference_has_none() -> None:
    from intervals import Interval, paired

    assert paired([0.5, 0.5]) == Interval(0.5, 0.5, 0.5, 0.0)
    assert paired([0.0, 0.0]).p == 1.0
    with pytest.raises(ValueError, match="at least two differences, got 1"):
        paired([0.5])


def test_holm_adjusts_as_in_the_literature() -> None:
    from intervals import holm

    # As R's p.adjust(..., "holm").
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.9, 0.001, 0.6]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([]) == []


def outcome_of(job, ranks=(3, 5)):
    """Return a made-up outcome: the middle learning rate and the larger scale are best."""
    from jobs import PLAIN_LORA, Outcome

    quality = 0.8 - abs(job.learning_rate - 3e-3) + 0.01 * job.scale + 0.001 * job.seed
    return Outcome(
        job=job, spearman=quality, accuracy=0.9, triplets=8, parameters=100, steps=200,
        cpu_seconds=2.0, machine="machine", ranks=[] if job.arm in PLAIN_LORA else [*ranks],
    )  # fmt: skip


def results_in_memory(path: Path):
    """Return results that write no file: a hundred files take seconds."""
    from results import Results

    class InMemory(Results):
        def add(self, outcome) -> None:
            self._outcomes[outcome.job] = outcome

    return InMemory(path)


def test_every_arm_has_the_same_tries_and_is_tested_with_the_best(tmp_path: Path) -> None:
    from jobs import ARMS, Plan

    plan, results = Plan(), results_in_memory(tmp_path / "results.jsonl")
    for job in plan.jobs(results):
        results.add(outcome_of(job))
    for arm in ARMS:
        done = [each.job for each in results if (each.job.arm, each.job.data) == (arm, "tweets")]
        tries = [(job.learning_rate, job.scale) for job in done if job.stage == "tune"]
        tests = [(job.learning_rate, job.scale) for job in done if job.stage == "test"]
        assert len(tries) == len(set(tries)) == 4
        assert len(tests) == 5
        assert set(tests) == {(3e-3, 2.0)}


def test_damaged_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    from jobs import Plan
    from results import Results

    path = tmp_path / "results.jsonl"
    results = Results(path)
    job, other = Plan().tuning("tweets", "lora")[:2]
    for each in (job, other):
        results.add(outcome_of(each))
    assert Results(path)[job] == outcome_of(job)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match=r"results.jsonl, line 2: expected one run"):
        Results(path)


def page_with(results: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    import evidence

    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(each.record()) + "\n" for each in results))
    monkeypatch.setattr(evidence, "RESULTS", path)
    evidence.draw()
    return evidence.block()


def test_page_says_what_is_missing_and_shows_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs import Plan

    pytest.importorskip("matplotlib", reason="would have drawn the picture of the page")
    plan, results = Plan(), results_in_memory(tmp_path / "all.jsonl")
    assert "0 of 160 runs are done" in page_with([], tmp_path, monkeypatch)
    for job in plan.jobs(results):
        # Never allocating is better in every seed, by a little more or less.
        better = 0.05 + 0.001 * job.seed if job.arm == "never" else 0.0
        better += 0.001 * (-1) ** job.seed if job.arm == "sensitivity" else 0.0
        # Of the later tries those of LoRA are worse, so that its planned one stays its best.
        better -= 1.0 if (job.stage, job.arm) == ("after", "lora") else 0.0
        made = outcome_of(job)
        results.add(dataclasses.replace(made, spearman=made.spearman + better))
    outcomes = list(results)
    page = page_with(outcomes, tmp_path, monkeypatch)
    assert "160 of 160 runs are done. Cost so far: 5 minutes" in page
    assert "incomplete" not in page
    later = page.partition("### Looked at afterwards")[2]
    assert (later.count("| yes |"), later.count("| no |")) == (8, 9)
    assert "scale 32) AdaLoRA was tested again: its correlation minus LoRA's is +0." in later
    assert page.count("5 of 6 comparisons show no difference") == 2
    assert page.startswith("**On products, AdaLoRA's correlation minus LoRA's is ")
    assert page.count("over 5 seeds: no difference shown (p after Holm's correction") == 2
    assert "AdaLoRA 1.00 (expected: 1 to 1.1); finding ranks and training again 2.00" in page
    losses = "LoRA loses 0.019 and AdaLoRA 0.019. Expected were losses above 0.02"
    assert f"{losses}, AdaLoRA's the larger: no." in page
    rows = [line for line in page.splitlines() if " minus AdaLoRA, sensitivity |" in line]
    assert [("first is higher" in row, row.endswith("| no |")) for row in rows] == [
        (True, True)
    ] * 2
    # Runs of another plan change nothing.
    others = [
        dataclasses.replace(outcomes[0], job=dataclasses.replace(outcomes[0].job, **changed))
        for changed in ({"data": "news"}, {"setting": "other"}, {"seed": 99})
    ]
    assert page_with([*outcomes, *others], tmp_path, monkeypatch) == page
    page = page_with(outcomes[: 28 + 3 * 7 + 2], tmp_path, monkeypatch)
    missing = "32 of 55 test runs on products; 9 of 9 later runs on products"
    assert f"Missing: {missing}; 5 of 5 repeated test runs on products; 28 of 28" in page
    rows = [line for line in page.splitlines() if line.startswith("| AdaLoRA, sensitivity minus")]
    assert [row.split(" | ")[1] for row in rows] == ["4", "3", "3", "3"]
    assert "On products, AdaLoRA's" in page
    assert "On tweets, AdaLoRA's" not in page
    assert "### Comparisons on tweets" not in page
    assert "afterwards" not in page


@pytest.mark.parametrize(
    ("mean", "reach", "expected", "as_expected"),
    [
        (-0.014, 0.011, "zero in the interval", False),
        (-0.014, 0.011, "nothing shown", True),
        (-0.014, 0.015, "zero in the interval", True),
        (-0.027, 0.030, "zero in the interval", False),  # beyond the limit
    ],
)
def test_expectation_is_judged_as_it_was_written(mean, reach, expected, as_expected) -> None:
    from evidence import Comparison
    from intervals import Interval

    found = Interval(mean, mean - reach, mean + reach, 0.03)
    comparison = Comparison(
        "tweets", "sensitivity", "lora", 0.02, expected, 5, found, found, adjusted=0.12
    )
    assert comparison.verdict == "no difference shown"
    assert comparison.as_expected is as_expected
