"""Faults of a run in a plain loop: each is found, once, with what to do."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import LOADERS, TARGET_BUDGET, final_ranks, make, optimizer_of
from run_loops import (
    STEPS,
    allocates_after_gradients_are_zeroed,
    allocates_after_zero_grad,
    allocates_before_step,
    allocates_per_micro_batch,
    backward,
    codes,
    counts_the_penalty_twice,
    found,
    has_a_loss_of_nan,
    has_no_gradient,
    has_zero_gradients,
    is_never_allocated,
    jumps,
    leaves_the_penalty_out,
    ready,
    right,
    run_of,
    starts_above_0,
    starts_again_each_epoch,
    train_rightly,
)
from toy_models import TwoLayer, two_layer_batch

from adalora_core import RunWarning, ignore_run_findings
from adalora_core.bridge import attach
from adalora_core.floor.errors import CheckpointError, RunError
from adalora_core.training.run import reporting

FAULTY_LOOPS = {
    "ADA803 before": allocates_before_step,
    "ADA803 after zero_grad": allocates_after_zero_grad,
    "ADA803 zeroed": allocates_after_gradients_are_zeroed,
    "ADA804": allocates_per_micro_batch,
    "ADA805 missing": has_no_gradient,
    "ADA805 zero": has_zero_gradients,
    "ADA806": has_a_loss_of_nan,
    "ADA808 back": starts_again_each_epoch,
    "ADA808 jump": jumps,
    "ADA808 start": starts_above_0,
    "ADA813": is_never_allocated,
    "ADA814": leaves_the_penalty_out,
    "ADA820": counts_the_penalty_twice,
}
QUIET_ABOUT_THE_PENALTY = {"ADA805 missing", "ADA805 zero"}
"""Loops whose loss has no penalty by their fault: weight 0 leaves the fault alone."""


@pytest.mark.parametrize("fault", FAULTY_LOOPS)
def test_fault_of_a_loop_is_found_once_and_the_saved_budget_is_kept(
    fault: str, library: str, tmp_path: Path
) -> None:
    changes = {"orth_reg_weight": 0.0} if fault in QUIET_ABOUT_THE_PENALTY else {}
    model, caught = run_of(library, FAULTY_LOOPS[fault], **changes)
    assert caught == [fault[:6]]
    reached = allocator_has_reached(model)
    late = codes(lambda: model.save_pretrained(tmp_path))
    assert late == {"ADA806": ["ADA819"], "ADA808 back": ["ADA811"]}.get(fault, [])
    if fault == "ADA806":
        # Its factors are not numbers any more.
        with pytest.raises(CheckpointError, match="not finite"):
            LOADERS[library].from_pretrained(TwoLayer(), tmp_path)
    elif reached:
        saved = LOADERS[library].from_pretrained(TwoLayer(), tmp_path)
        assert sum(final_ranks(saved)) == TARGET_BUDGET


def test_run_beyond_total_step_is_found_once_with_both_numbers(library: str) -> None:
    model, optimizer = ready(library)
    (warning,) = found(lambda: [right(model, optimizer, step) for step in range(2 * STEPS)])
    assert f"got step {STEPS + 1}, and its total_step is {STEPS}" in str(warning.message)


def allocator_has_reached(model: Any) -> bool:
    return bool(model.base_model.trained_adapters()[0].allocator.target_reached)


def test_finding_begins_with_its_code_shows_numbers_a_remedy_and_the_line(library: str) -> None:
    model, optimizer = ready(library)
    (warning,) = found(lambda: [is_never_allocated(model, optimizer, step) for step in range(9)])
    text = str(warning.message)
    assert text.startswith("ADA813: the optimizer made 3 steps on the adapter 'default'")
    assert "To do: call model.update_and_allocate(step)" in text
    assert "adalora rule ADA813" in text
    assert warning.filename == is_never_allocated.__code__.co_filename


# --- the optimizer --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("calls", [False, True])
def test_optimizer_made_before_the_adapter_is_found_at_the_second_step(
    library: str, is_fused: bool, calls: bool
) -> None:
    base = TwoLayer()
    optimizer = torch.optim.AdamW(base.parameters(), fused=is_fused)
    model = make(library, base).train()

    def steps(count: int) -> None:
        for step in range(count):
            backward(model, step)
            optimizer.step()
            if calls:
                model.base_model.update_and_allocate(step)

    assert codes(lambda: steps(1)) == []
    (warning,) = found(lambda: steps(1 if not calls else 0) or model_step(model, optimizer, calls))
    assert "ADA802" in str(warning.message)
    assert "holds 0 of the 6 factors" in str(warning.message)


def model_step(model: Any, optimizer: torch.optim.Optimizer, calls: bool) -> None:
    if calls:
        right(model, optimizer, 1)


@pytest.mark.parametrize("kept", ["lora_A", "first.", "head"])
def test_optimizer_of_some_or_none_of_the_factors_is_found(library: str, kept: str) -> None:
    model = make(library, TwoLayer(), modules_to_save=["head"]).train()
    chosen = [each for name, each in model.named_parameters() if kept in name]
    optimizer = torch.optim.AdamW([each for each in chosen if each.requires_grad])
    assert codes(lambda: [right(model, optimizer, step) for step in range(2)]) == ["ADA802"]


def test_optimizer_of_a_copy_is_found(library: str) -> None:
    model = make(library, TwoLayer()).train()
    optimizer = optimizer_of(copy.deepcopy(model))
    assert codes(lambda: [right(model, optimizer, step) for step in range(3)]) == ["ADA802"]


# --- models that have adapters already ------------------------------------------------------------


def test_model_with_adapter_is_not_adapted_again(library: str) -> None:
    model = make(library, TwoLayer())
    with pytest.raises(RunError, match=r"^ADA801: .*add_adapter.*set_adapter"):
        make("adalora_core", model)
    with pytest.raises(RunError, match="ADA801"):
        make("adalora_core", model.get_base_model())
    unloaded = model.unload()
    assert make("adalora_core", unloaded) is not None


def test_bridge_refuses_a_model_of_peft_in_a_model_of_peft() -> None:
    inner = peft.get_peft_model(TwoLayer(), peft.LoraConfig(target_modules=["head"]))
    config = peft.AdaLoraConfig(target_modules=["first"], total_step=30, tinit=2, tfinal=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns too
        outer = peft.get_peft_model(inner, config)
    with pytest.raises(RunError, match="ADA801"):
        attach(outer)


# --- entries without a module ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ["first", "secnd"]}, r"target_modules 'secnd' .*mean 'second'\?"),
        ({"exclude_modules": ["heads"]}, r"exclude_modules 'heads' .*mean 'head'\?"),
        ({"modules_to_save": ["heads"]}, r"modules_to_save 'heads' .*'head'"),
    ],
)
def test_entry_that_matches_nothing_is_named_with_near_names(
    library: str, changes: dict[str, Any], message: str
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You have passed exclude_modules")
        with pytest.warns(RunWarning, match=f"^ADA807: {message}"):
            make(library, TwoLayer(), **changes)


# --- resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [2, 12])
def test_run_resumed_without_its_state_is_found(library: str, stop: int, tmp_path: Path) -> None:
    model, _ = run_of(library, right, stop)
    found(lambda: model.save_pretrained(tmp_path, save_training_state=False))

    def resume() -> None:
        resumed = LOADERS[library].from_pretrained(TwoLayer(), tmp_path, is_trainable=True).train()
        optimizer = optimizer_of(resumed)
        train_rightly(resumed, optimizer, range(stop, stop + 3))

    assert codes(resume) == ["ADA809"]


def test_run_resumed_with_half_of_its_state_gets_a_clear_answer(
    library: str, tmp_path: Path
) -> None:
    model, _ = run_of(library, right, 12)
    model.save_pretrained(tmp_path, save_training_state=True)
    (state,) = tmp_path.glob("adalora_state*")
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="training state"):
        LOADERS[library].from_pretrained(TwoLayer(), tmp_path, is_trainable=True)


# --- before the budget is reached -----------------------------------------------------------------


def test_unfinished_run_is_named_when_saved_exported_or_merged(
    library: str, tmp_path: Path
) -> None:
    message = r"^ADA811: .* at step 12 of 30 with \d+ triplets, target 16"
    model, _ = run_of(library, right, 12)
    model.save_pretrained(tmp_path, save_training_state=True)
    for save in (
        lambda model: model.save_pretrained(tmp_path),
        lambda model: model.save_pretrained(tmp_path, save_training_state=False),
        lambda model: model.merge_and_unload(),
        *([lambda model: model.export_lora(tmp_path / "lora")] * (library == "adalora_core")),
    ):
        with pytest.warns(RunWarning, match=message):
            save(run_of(library, right, 12)[0])


@pytest.mark.parametrize("steps", [1, 2])
def test_short_run_without_an_allocation_is_named_when_saved_or_merged(
    library: str, steps: int, tmp_path: Path
) -> None:
    for save in (
        lambda model: model.save_pretrained(tmp_path),
        lambda model: model.save_pretrained(tmp_path, save_training_state=True),
        lambda model: model.merge_and_unload(),
    ):
        model, caught = run_of(library, is_never_allocated, steps)
        assert caught == []
        with pytest.warns(RunWarning, match=rf"^ADA813: .* after {steps} steps"):
            save(model)


def test_long_run_without_an_allocation_is_named_at_a_tenth_or_at_30_steps(library: str) -> None:
    for total_step, limit in ((30, 3), (100, 10), (2000, 30)):
        settings = {"total_step": total_step}
        assert run_of(library, is_never_allocated, limit - 1, **settings)[1] == []
        assert run_of(library, is_never_allocated, limit, **settings)[1] == ["ADA813"]


# --- errors ---------------------------------------------------------------------------------------


def test_forward_with_adapter_names_is_refused(library: str) -> None:
    model = make(library, TwoLayer())
    with pytest.raises(RunError, match=r"^ADA815: .*set_adapter"):
        model(**two_layer_batch(0), adapter_names=["default"] * 8)


def test_training_while_merged_is_refused() -> None:
    model = make("attached", TwoLayer()).train()
    model.merge_adapter()
    loss = model(**two_layer_batch(0)).loss  # a forward alone may compare outputs
    with pytest.raises(RunError, match=r"^ADA816: .*unmerge_adapter"):
        loss.backward()
    model.eval()(**two_layer_batch(0))
    model.train().unmerge_adapter()
    model(**two_layer_batch(0)).loss.backward()


def test_training_with_nothing_trainable_is_refused(library: str, tmp_path: Path) -> None:
    make(library, TwoLayer()).save_pretrained(tmp_path)
    model = LOADERS[library].from_pretrained(TwoLayer(), tmp_path)
    for mode in (model.eval, model.train):
        loss = mode()(**two_layer_batch(0)).loss
        with pytest.raises(RunError, match=r"^ADA817: .*is_trainable=True"):
            loss.backward()
    with pytest.raises(RunError, match=r"^ADA817: .*is_trainable=True"):
        model.base_model.update_and_allocate(0)
    with torch.no_grad():
        model(**two_layer_batch(0))


@pytest.mark.parametrize(("field", "value"), [("total_step", 40), ("target_r", 4), ("beta1", 0.5)])
def test_schedule_assigned_takes_effect_before_the_first_step_and_is_refused_later(
    library: str, field: str, value: Any
) -> None:
    model = make(library, TwoLayer()).train()
    setattr(model.peft_config["default"], field, value)
    optimizer = optimizer_of(model)
    train_rightly(model, optimizer, range(40 if field == "total_step" else STEPS))
    assert sum(final_ranks(model)) == (8 if field == "target_r" else TARGET_BUDGET)
    before = getattr(model.peft_config["default"], field)
    model.peft_config["default"].tfinal = 7
    with pytest.raises(RunError, match=r"^ADA818: .*tfinal from 5 to 7"):
        right(model, optimizer, STEPS)
    assert before == value


# --- parameters that are not finite ---------------------------------------------------------------


def test_saved_parameters_that_are_not_finite_are_named(library: str, tmp_path: Path) -> None:
    model, _ = run_of(library, right)
    with torch.no_grad():
        next(each for name, each in model.named_parameters() if "lora_A" in name)[0, 0] = torch.nan
    with pytest.warns(RunWarning, match=r"^ADA819: .* is saved"):
        model.save_pretrained(tmp_path)


# --- switching findings off -----------------------------------------------------------------------


@pytest.fixture
def _forget_what_is_ignored() -> Iterator[None]:
    yield
    reporting._ignored.clear()


@pytest.mark.usefixtures("_forget_what_is_ignored")
def test_one_code_or_all_are_switched_off() -> None:
    ignore_run_findings("ADA813")
    assert run_of("adalora_core", is_never_allocated)[1] == []
    assert run_of("adalora_core", starts_above_0)[1] == ["ADA808"]
    ignore_run_findings()
    assert run_of("adalora_core", starts_above_0)[1] == []
    model = make("attached", TwoLayer()).train()
    model.merge_adapter()
    model(**two_layer_batch(0)).loss.backward()
    with pytest.raises(ValueError, match="ADA999"):
        ignore_run_findings("ADA999")


# --- the report -----------------------------------------------------------------------------------


def test_report_of_a_run_gives_its_numbers(library: str) -> None:
    model, _ = run_of(library, right, 12)
    report = model.run_report()
    assert (report.steps, report.total_step, report.target) == (12, 30, TARGET_BUDGET)
    assert not report.is_budget_reached
    assert "step 12 of 30" in str(report)
    assert "not reached" in str(report)
    finished, _ = run_of(library, right)
    assert finished.run_report().is_budget_reached
    assert "no findings" in str(finished.run_report())
    bad, _ = run_of(library, has_a_loss_of_nan)
    assert bad.run_report().nonfinite_steps >= 20
    assert [*bad.run_report().findings] == ["ADA806"]
