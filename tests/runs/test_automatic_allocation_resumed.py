"""Runs that nobody allocates, and that begin anew, go on, or are saved."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from adalora_runs import LOADERS, TARGET_BUDGET, allocator_of, optimizer_of
from run_loops import found
from toy_models import two_layer
from uncalled_runs import assert_same, begin, called, doors, is_automatic, run_of, silent, switch

import adalora_core
from adalora_core.floor.errors import RunWarning

__all__ = ["switch"]

pytestmark = pytest.mark.usefixtures("switch")


# --- runs that begin anew or go on ----------------------------------------------------------------


@doors
def test_learning_rate_finder_leaves_no_trace(library: str) -> None:
    model, optimizer = begin(library)
    start = {name: each.clone() for name, each in model.state_dict().items()}
    optimizer_start = optimizer_of(model).state_dict()
    silent(model, optimizer, range(25))
    assert is_automatic(model)
    model.load_state_dict(start)
    optimizer.load_state_dict(optimizer_start)
    assert allocator_of(model).last_step is None
    silent(model, optimizer, range(40))
    other, its = begin(library)
    silent(other, its, range(40))
    assert_same(model, other)


@doors
@pytest.mark.parametrize("at", [8, 20, 36])
def test_resumed_run_equals_the_uninterrupted_one(library: str, at: int, tmp_path: Path) -> None:
    model, optimizer = begin(library)
    silent(model, optimizer, range(at))
    model.save_pretrained(str(tmp_path), save_training_state=True)
    its_state = copy.deepcopy(optimizer.state_dict())
    silent(model, optimizer, range(at, 40))
    resumed = LOADERS[library].from_pretrained(two_layer(), tmp_path, is_trainable=True).train()
    optimizer = optimizer_of(resumed)
    optimizer.load_state_dict(its_state)
    assert not found(lambda: silent(resumed, optimizer, range(at, 40)))
    assert_same(model, resumed)


@doors
def test_script_that_calls_after_a_resume_is_not_called_for(library: str, tmp_path: Path) -> None:
    model, optimizer = begin(library)
    called(model, optimizer, range(20), lambda _: True)
    model.save_pretrained(str(tmp_path), save_training_state=True)
    resumed = LOADERS[library].from_pretrained(two_layer(), tmp_path, is_trainable=True).train()
    its = optimizer_of(resumed)
    called(resumed, its, range(20, 40), lambda _: True)
    assert not run_of(resumed).automatic.message


@doors
def test_bare_state_dict_goes_on_at_the_step_of_the_optimizer(library: str) -> None:
    model, optimizer = begin(library)
    silent(model, optimizer, range(20))
    resumed, its = begin(library)
    resumed.load_state_dict(model.state_dict())
    its.load_state_dict(optimizer.state_dict())
    (finding,) = found(lambda: silent(resumed, its, range(20, 40)))
    assert "ADA808" in str(finding.message)
    assert "averages begin anew" in str(finding.message)
    assert allocator_of(resumed).last_step == 39
    assert allocator_of(resumed).budget == TARGET_BUDGET


@doors
def test_optimizer_whose_counts_differ_is_not_followed(library: str) -> None:
    model, optimizer = begin(library)
    silent(model, optimizer, range(2))
    resumed, its = begin(library)
    its.load_state_dict(optimizer.state_dict())
    E = next(each for name, each in resumed.named_parameters() if "lora_E" in name)
    its.state[E]["step"] += 5
    messages = [str(each.message) for each in found(lambda: silent(resumed, its, range(12)))]
    assert "ADA808" in messages[0]
    assert allocator_of(resumed).last_step is None


# --- saves ----------------------------------------------------------------------------------------


@doors
def test_run_that_ends_early_is_reported_at_its_save(library: str, tmp_path: Path) -> None:
    model, optimizer = begin(library)
    silent(model, optimizer, range(12))
    (finding,) = found(lambda: model.save_pretrained(str(tmp_path / "result")))
    assert "ADA811" in str(finding.message)
    assert "step 12 of 40" in str(finding.message)


@doors
def test_checkpoint_before_the_decision_is_no_fault(library: str, tmp_path: Path) -> None:
    model, optimizer = begin(library)
    silent(model, optimizer, range(5))
    assert not found(lambda: model.save_pretrained(str(tmp_path / "checkpoint-5")))
    (finding,) = found(lambda: model.save_pretrained(str(tmp_path / "result")))
    assert "ADA811" in str(finding.message)


@doors
def test_error_of_the_call_is_a_finding_and_the_run_goes_on(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = begin(library)

    def fail(*_: Any, **__: Any) -> None:
        raise adalora_core.AdaLoraError("no schedule")

    monkeypatch.setattr(allocator_of(model), "step", fail)
    (finding,) = found(lambda: silent(model, optimizer, range(20)))
    assert finding.category is RunWarning
    assert "ADA813" in str(finding.message)
    assert "no schedule" in str(finding.message)
