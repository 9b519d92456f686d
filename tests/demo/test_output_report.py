"""The report shows the results, faults above all."""

from __future__ import annotations

import dataclasses

import pytest

from adalora_core.checker.plan.plan import Plan
from adalora_core.demo.output import Outcome, render_report
from adalora_core.demo.settings import FULL
from adalora_core.floor.budget import BudgetSchedule


@pytest.fixture
def outcome():
    return Outcome(
        settings=FULL,
        plan=Plan(BudgetSchedule(16, 8, 47, 109, total_step=314, deltaT=5), 2, 12, 8),
        probe_accuracy=0.891,
        adapted_accuracy=0.923,
        ranks={"layer.0.query": 0, "layer.1.query": 8},
        trainable_parameters=1000,
        base_parameters=100_000,
        training_seconds=47.3,
        prediction_difference=3e-6,
    )


def test_render_report_shows_accuracies_ranks_and_difference(outcome):
    report = render_report(outcome)
    for expected in ("89.1%", "**92.3%**", "8 of 16 (target 4 x 2 = 8)", "3.0e-06 (limit 1e-04)"):
        assert expected in report
    assert "The lowest is now 0 (`layer.0.query`), the highest 8 (`layer.1.query`)" in report
    assert "| budgeting | 48 to 204 | 31 allocations, every 5 steps |" in report
    assert "Fault" not in report


def test_outcome_without_fault_has_none(outcome):
    assert outcome.faults() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranks": {"layer.0.query": 3}}, "the ranks sum to 3, the target budget is 8"),
        ({"prediction_difference": 1e-4}, "a prediction differs by 1.0e-04, expected less than"),
        ({"prediction_difference": float("nan")}, "a prediction differs by nan"),
    ],
)
def test_faulty_outcome_says_so_in_report_and_faults(outcome, change, message):
    faulty = dataclasses.replace(outcome, **change)
    (fault,) = faulty.faults()
    assert message in fault
    assert f"**Fault: {fault}.**" in render_report(faulty)
