"""The statistics of the studies are those of textbooks, and a damaged line of results is named."""

from __future__ import annotations

import dataclasses
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


def test_damaged_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    from jobs import Plan
    from results import Outcome, Results

    path = tmp_path / "results.jsonl"
    results, (job, other) = Results(path), Plan().tuning("tweets", "lora")[:2]
    made = Outcome(
        job=job, spearman=0.8, accuracy=0.9, triplets=8, parameters=100, steps=200,
        cpu_seconds=2.0, machine="machine", ranks=[],
    )  # fmt: skip
    for each in (made, dataclasses.replace(made, job=other)):
        results.add(each)
    assert Results(path)[job] == made
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match=r"results.jsonl, line 2: expected one run"):
        Results(path)
