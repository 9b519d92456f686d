"""Runs of models that are copied or pickled: each copy is a run of its own."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from adalora_runs import make, optimizer_of
from process_groups import run_processes
from run_loops import (
    STEPS,
    allocates_after_zero_grad,
    backward,
    codes,
    found,
    ready,
    report_without_calls,
    right,
    train_rightly,
    without_calls,
)
from toy_models import TwoLayer


def through_pickle(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes


both = pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])


@both
def test_mistake_with_a_copy_is_told_as_with_its_original(door: str, copied: Any) -> None:
    model = copied(make(door, TwoLayer())).train()
    optimizer = optimizer_of(model)
    loop = allocates_after_zero_grad
    assert codes(lambda: [loop(model, optimizer, step) for step in range(STEPS)]) == ["ADA803"]


@pytest.mark.parametrize(("copied_at", "clears"), [(0, "model"), (12, "model"), (12, "optimizer")])
def test_optimizer_of_the_original_is_told(door: str, copied_at: int, clears: str) -> None:
    model, optimizer = ready(door)
    train_rightly(model, optimizer, range(copied_at))
    model = copy.deepcopy(model)
    cleared = model if clears == "model" else optimizer

    def run() -> None:
        for step in range(copied_at, STEPS):
            backward(model, step)
            optimizer.step()
            model.base_model.update_and_allocate(step)
            cleared.zero_grad()

    (message,) = (str(each.message) for each in found(run))
    assert message.startswith("ADA802: ")
    assert "holds 0 of the 6 factors" in message


@both
def test_copy_of_a_new_model_is_allocated_like_its_original(door: str, copied: Any) -> None:
    original = make(door, TwoLayer())
    for _ in range(2):  # as of the folds of a cross-validation
        model = copied(original)
        without_calls(model, optimizer_of(model))
        assert model.run_report().is_budget_reached
        assert "adalora_core calls it" in model.run_report().automatic


@pytest.mark.slow
def test_model_that_another_process_gets_is_allocated_there(door: str, tmp_path: Path) -> None:
    model = make(door, TwoLayer())
    (report,) = run_processes(1, report_without_calls, tmp_path / "results", model)
    assert "budget reached" in report
    assert "adalora_core calls it" in report


def test_copies_that_learn_in_an_inner_loop_are_quiet(door: str) -> None:
    model, optimizer = ready(door)
    for step in range(STEPS):
        right(model, optimizer, step)
        learner = copy.deepcopy(model)
        without_calls(learner, optimizer_of(learner), 4)
        assert not learner.run_report().automatic


def test_copy_of_a_run_without_calls_is_told_at_its_save(door: str, tmp_path: Path) -> None:
    model, optimizer = ready(door)
    train_rightly(model, optimizer, range(4))
    other = copy.deepcopy(model)
    without_calls(other, optimizer_of(other), 20)
    assert codes(lambda: other.save_pretrained(str(tmp_path))) == ["ADA811"]


def test_copy_of_a_long_run_is_allocated_after_more_steps_than_an_inner_loop_has(door: str) -> None:
    model, optimizer = ready(door, total_step=60)
    train_rightly(model, optimizer, range(4))
    other = copy.deepcopy(model)
    without_calls(other, optimizer_of(other), 56)
    assert other.run_report().is_budget_reached


def test_best_copy_that_goes_on_with_an_optimizer_of_its_own_is_quiet(door: str) -> None:
    model, optimizer = ready(door)
    for step in range(STEPS):
        right(model, optimizer, step)
        if step == 3:
            best = copy.deepcopy(model)
        if step == 20:
            model = best
            optimizer = optimizer_of(model)
    assert model.run_report().is_budget_reached


@pytest.mark.parametrize("own_steps", [0, 1])
def test_merge_of_a_copy_is_told_where_the_copy_has_made_steps(door: str, own_steps: int) -> None:
    model, optimizer = ready(door)
    train_rightly(model, optimizer, range(4))
    other = copy.deepcopy(model)
    without_calls(other, optimizer_of(other), own_steps)
    assert codes(lambda: other.eval().merge_and_unload()) == ["ADA811"] * own_steps
    assert codes(model.merge_and_unload) == ["ADA811"]
