"""Runs in which nobody calls `update_and_allocate`, and loops that a naive rule would change."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import LOADERS, TARGET_BUDGET, allocator_of, optimizer_of
from run_loops import backward, codes, found
from toy_models import TwoLayer, two_layer_batch
from uncalled_runs import (
    LATE,
    assert_same,
    begin,
    called,
    doors,
    is_automatic,
    run_of,
    silent,
    switch,
)

from adalora_core import allocate_automatically, allocate_on_step

__all__ = ["switch"]

pytestmark = pytest.mark.usefixtures("switch")


# --- it allocates ---------------------------------------------------------------------------------


@doors
@pytest.mark.parametrize("stop", [3, 4, 20, 40, 41])
def test_run_without_a_call_equals_the_run_with_a_hook(library: str, stop: int) -> None:
    model, optimizer = begin(library)
    other, its = begin(library)
    silent(model, optimizer, range(stop))
    handle = allocate_on_step(its, other)
    silent(other, its, range(stop))
    handle.remove()
    if stop > LATE["tinit"] + 1:
        assert is_automatic(model)
        assert_same(model, other)
    else:
        assert allocator_of(model).last_step is None


@doors
def test_run_ends_at_the_budget_with_one_message_and_no_warning(
    library: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    model, optimizer = begin(library)
    with caplog.at_level(logging.WARNING, "adalora_core"), warnings.catch_warnings():
        warnings.simplefilter("error")
        silent(model, optimizer, range(40))
        model.save_pretrained(str(tmp_path))
    (record,) = caplog.records
    assert "from step 7 of 40 on" in record.getMessage()
    for way in ("AdaLoraCallback", "allocate_on_step", "update_and_allocate(step)"):
        assert way in record.getMessage()
    report = model.base_model.run_report()
    assert report.is_budget_reached
    assert not report.findings
    assert report.automatic == record.getMessage()
    assert report.automatic in str(report)
    loaded = LOADERS["peft"].from_pretrained(TwoLayer(), tmp_path)
    assert sum(each.shape[0] for name, each in loaded.named_parameters() if "lora_E" in name) == (
        TARGET_BUDGET
    )


@doors
def test_schedule_that_began_before_the_decision_ends_at_the_same_budget(library: str) -> None:
    model, optimizer = begin(library, tinit=1, total_step=100)
    silent(model, optimizer, range(100))
    first = allocator_of(model).history[0]
    assert first.step == 9  # the tenth step: a tenth of the schedule has passed
    assert allocator_of(model).budget == TARGET_BUDGET


@doors
def test_schedule_without_a_final_phase_is_final_after_its_last_step(library: str) -> None:
    model, optimizer = begin(library, tfinal=0)
    silent(model, optimizer, range(39))
    assert not allocator_of(model).target_reached
    silent(model, optimizer, range(39, 40))
    assert allocator_of(model).target_reached
    assert allocator_of(model).budget == TARGET_BUDGET


# --- it changes nothing for scripts that call -----------------------------------------------------

HABITS: dict[str, Callable[[int], bool]] = {
    "each step": lambda _: True,
    "from step 1 on": lambda step: step > 0,
    "from tinit on": lambda step: step >= 6,
    "each second step": lambda step: step % 2 == 1,
    "each third step": lambda step: step % 3 == 2,
}


@doors
@pytest.mark.parametrize("habit", HABITS)
def test_script_that_calls_is_as_without_the_package_calling(library: str, habit: str) -> None:
    steps = range(40)
    model, optimizer = begin(library)
    seen = codes(lambda: called(model, optimizer, steps, HABITS[habit]))
    allocate_automatically(False)
    other, its = begin(library)
    told = codes(lambda: called(other, its, steps, HABITS[habit]))
    assert not run_of(model).automatic.message
    assert seen == told
    assert_same(model, other)


@doors
@pytest.mark.parametrize(
    ("first", "every", "total"), [(9, 1, 100), (40, 1, 400), (49, 50, 2000), (29, 30, 2000)]
)
def test_script_that_calls_late_is_unchanged(
    library: str, first: int, every: int, total: int
) -> None:
    """At step 9, at `tinit`, and each k-th step."""
    changes = {"total_step": total, "tinit": first, "tfinal": total // 4}

    def calls(step: int) -> bool:
        return step >= first and (step - first) % every == 0

    model, optimizer = begin(library, **changes)
    found(lambda: called(model, optimizer, range(100), calls))
    allocate_automatically(False)
    other, its = begin(library, **changes)
    found(lambda: called(other, its, range(100), calls))
    assert_same(model, other)


@doors
def test_call_after_the_decision_ends_it_and_counts_no_step_twice(library: str) -> None:
    model, optimizer = begin(library)
    silent(model, optimizer, range(12))
    assert is_automatic(model)
    assert not found(lambda: called(model, optimizer, range(12, 40), lambda _: True))
    assert not is_automatic(model)
    other, its = begin(library)
    handle = allocate_on_step(its, other)
    silent(other, its, range(40))
    handle.remove()
    assert_same(model, other)


@doors
def test_switch_turns_it_off_for_all_or_for_one_model(library: str) -> None:
    one, its = begin(library)
    other, others = begin(library)
    allocate_automatically(False, one)
    assert "ADA813" in str(found(lambda: silent(one, its, range(12)))[0].message)
    silent(other, others, range(12))
    assert not run_of(one).calls
    assert is_automatic(other)
    allocate_automatically(False)
    third, thirds = begin(library)
    found(lambda: silent(third, thirds, range(12)))
    assert not run_of(third).calls
    with pytest.raises(TypeError, match="allocate_automatically"):
        allocate_automatically(True, TwoLayer())


# --- which steps count ----------------------------------------------------------------------------


class Sharpness(torch.optim.Optimizer):
    """SAM: an optimizer around another one, whose step has two hooks."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.base = base
        super().__init__(base.param_groups, {})

    def step(self, closure: Any = None) -> Any:
        return self.base.step(closure)


@doors
def test_optimizer_around_another_shows_one_step(library: str) -> None:
    model, optimizer = begin(library)
    outer = Sharpness(optimizer)
    other, its = begin(library)
    silent(model, outer, range(40))
    silent(other, its, range(40))
    assert not model.base_model.run_report().findings
    assert_same(model, other)


@doors
def test_lbfgs_with_several_evaluations_shows_one_step(library: str) -> None:
    model, _ = begin(library)
    optimizer = torch.optim.LBFGS(
        [each for each in model.parameters() if each.requires_grad], lr=1e-2, max_iter=3
    )

    def closure(step: int) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(**two_layer_batch(step)).loss
        loss.backward()
        return loss

    for step in range(40):
        optimizer.step(lambda: closure(step))  # noqa: B023 - called at once
    assert allocator_of(model).last_step == 39
    assert allocator_of(model).budget == TARGET_BUDGET


@doors
def test_optimizer_of_a_second_phase_becomes_the_driver(library: str) -> None:
    model, optimizer = begin(library)
    silent(model, optimizer, range(12))
    silent(model, optimizer_of(model), range(12, 20))
    assert allocator_of(model).last_step == 19


@doors
def test_steps_with_a_frozen_adapter_count(library: str) -> None:
    """A head is trained first, as `allocate_on_step` counts it."""
    model, _ = begin(library)
    factors = [each for name, each in model.named_parameters() if "lora_" in name]
    model.base_model.model.head.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for each in factors:
        each.requires_grad_(False)
    silent(model, optimizer, range(5))
    for each in factors:
        each.requires_grad_(True)
    silent(model, optimizer, range(5, 12))
    assert allocator_of(model).last_step == 11


@doors
def test_step_that_a_fused_optimizer_skipped_does_not_count(library: str) -> None:
    model, _ = begin(library)
    factors = [each for each in model.parameters() if each.requires_grad]
    optimizer: Any = torch.optim.AdamW(factors, fused=True)
    for step in range(20):
        backward(model, step)
        if step % 4 == 0:
            optimizer.found_inf = torch.ones(())
        optimizer.step()
        optimizer.__dict__.pop("found_inf", None)
        optimizer.zero_grad()
    assert allocator_of(model).last_step == 14


@doors
@pytest.mark.parametrize("split", ["muon", "factor"])
def test_split_factors_are_not_allocated_and_are_reported(library: str, split: str) -> None:
    """Muon takes matrices and AdamW the rest, or each parameter has its own optimizer."""
    model, _ = begin(library)
    factors = [each for each in model.parameters() if each.requires_grad]
    parts = (
        [factors[0::3] + factors[2::3], factors[1::3]]
        if split == "muon"
        else [[each] for each in factors]
    )
    optimizers = [torch.optim.AdamW(part) for part in parts]

    def train() -> None:
        for step in range(12):
            backward(model, step)
            for each in optimizers:
                each.step()
                each.zero_grad()

    (finding,) = found(train)
    assert "ADA813" in str(finding.message)
    assert allocator_of(model).last_step is None
    assert "ADA813" in model.base_model.run_report().findings


@doors
def test_two_networks_with_an_optimizer_each_are_allocated_apart(library: str) -> None:
    """A GAN: both optimizers step in turn, each on its own network."""
    one, its = begin(library)
    other, others = begin(library)
    for step in range(20):
        for model, optimizer in ((one, its), (other, others)):
            backward(model, step)
            optimizer.step()
            optimizer.zero_grad()
    alone, optimizer = begin(library)
    silent(alone, optimizer, range(20))
    assert_same(one, alone)
    assert_same(other, alone)


@doors
def test_frozen_reference_and_evaluation_are_never_allocated(library: str) -> None:
    reference, _ = begin(library)
    reference.requires_grad_(False).eval()
    model, optimizer = begin(library)
    for step in range(20):
        backward(model, step)
        with torch.no_grad():
            reference(**two_layer_batch(step))
            model.eval()(**two_layer_batch(step))
        model.train()
        optimizer.step()
        optimizer.zero_grad()
    assert allocator_of(reference).last_step is None
    assert allocator_of(model).last_step == 19


def test_schedule_that_nobody_binds_is_reported_with_the_remedy(tmp_path: Path) -> None:
    model, optimizer = begin("adalora_core", total_step="auto")
    silent(model, optimizer, range(5))
    (finding,) = found(lambda: model.save_pretrained(str(tmp_path)))
    assert "ADA813" in str(finding.message)
    assert "bind_total_step" in str(finding.message)
