"""Runs in which nobody calls `update_and_allocate`, and loops that a naive rule would change."""

from __future__ import annotations

import copy
import logging
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adalora_runs import LOADERS, OURS, TARGET_BUDGET, allocator_of, make, optimizer_of
from run_loops import backward, codes, found
from toy_models import TwoLayer, two_layer_batch

import adalora_core
from adalora_core import allocate_automatically, allocate_on_step
from adalora_core.floor.errors import RunWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LATE = {"total_step": 40, "tinit": 6, "tfinal": 10}
"""A schedule whose first allocation comes after the decision, at step 3."""

doors = pytest.mark.parametrize("library", OURS)


@pytest.fixture(autouse=True)
def switch() -> Iterator[None]:
    allocate_automatically(True)
    yield
    allocate_automatically(True)


def begin(library: str, **changes: Any) -> tuple[Any, torch.optim.Optimizer]:
    torch.manual_seed(7)
    model = make(library, TwoLayer(), **{**LATE, **changes}).train()
    return model, optimizer_of(model)


def silent(model: Any, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Train and call nothing."""
    for step in steps:
        backward(model, step)
        optimizer.step()
        optimizer.zero_grad()


def called(model: Any, optimizer: Any, steps: range, calls: Callable[[int], bool]) -> None:
    for step in steps:
        backward(model, step)
        optimizer.step()
        if calls(step):
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()


def state_of(model: Any) -> dict[str, Any]:
    """Return everything that a run changes: parameters, averages, kept sets and their history."""
    allocator = allocator_of(model)
    names = (name for name, _ in model.named_parameters())
    return {
        **dict(zip(names, (each.detach().clone() for each in model.parameters()), strict=True)),
        **{f"smoothed {at}": each for at, each in enumerate(allocator.statistics.smoothed)},
        **{f"uncertain {at}": each for at, each in enumerate(allocator.statistics.uncertainty)},
        "mask": allocator.mask,
        "history": [(each.step, each.budget, each.allocated) for each in allocator.history],
        "last step": allocator.last_step,
        "final": allocator.target_reached,
    }


def assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(state_of(one), state_of(other), rtol=0, atol=0)


def run_of(model: Any) -> Any:
    return model.base_model.trained_adapters()[0].run


def is_automatic(model: Any) -> bool:
    return bool(run_of(model).automatic.is_active)


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
    resumed = LOADERS[library].from_pretrained(_base(), tmp_path, is_trainable=True).train()
    optimizer = optimizer_of(resumed)
    optimizer.load_state_dict(its_state)
    assert not found(lambda: silent(resumed, optimizer, range(at, 40)))
    assert_same(model, resumed)


def _base() -> TwoLayer:
    torch.manual_seed(7)
    return TwoLayer()


@doors
def test_script_that_calls_after_a_resume_is_not_called_for(library: str, tmp_path: Path) -> None:
    model, optimizer = begin(library)
    called(model, optimizer, range(20), lambda _: True)
    model.save_pretrained(str(tmp_path), save_training_state=True)
    resumed = LOADERS[library].from_pretrained(_base(), tmp_path, is_trainable=True).train()
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
