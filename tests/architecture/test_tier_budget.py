"""The budget of the fast tier: what counts, and what a run beyond it reports."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from tier_budget import MOST_PROCESSES, MOST_SECONDS, Budget


def budget_after(*works, is_checked=True, keywords=()):
    budget = Budget(is_checked)
    for number, work in enumerate(works):
        budget.pytest_runtest_logreport(
            SimpleNamespace(
                nodeid=f"test_{number}",
                when="teardown",
                user_properties=[("work", work)],
                keywords=keywords,
            )
        )
    return budget


@pytest.mark.parametrize("beyond", [(MOST_SECONDS + 1.0, 0), (0.0, MOST_PROCESSES + 1)])
def test_a_run_beyond_the_budget_fails_and_names_the_costliest_tests(beyond):
    budget = budget_after((1.0, 1), beyond)
    seconds, started, advice, *costliest = budget.excess()
    assert seconds.endswith(f"at most {MOST_SECONDS}")
    assert started.endswith(f"at most {MOST_PROCESSES}")
    assert "mark as slow" in advice
    assert len(costliest) == 2
    session = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    budget.pytest_sessionfinish(session)
    assert session.exitstatus == pytest.ExitCode.TESTS_FAILED


def test_a_run_within_the_budget_reports_nothing():
    assert budget_after((MOST_SECONDS - 1.0, MOST_PROCESSES)).excess() == []


def test_other_tiers_and_tests_on_a_gpu_do_not_count():
    beyond = (MOST_SECONDS + 1.0, 0)
    assert budget_after(beyond, is_checked=False).excess() == []
    assert budget_after(beyond, keywords={"gpu"}).excess() == []


def test_processes_that_a_test_starts_are_counted(request):
    (budget,) = (
        each for each in request.config.pluginmanager.get_plugins() if isinstance(each, Budget)
    )
    before = budget._started
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert budget._started == before + 1
