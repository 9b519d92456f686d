"""Runs that are something else, which torch and PEFT pass over in silence: each is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import LOADERS, TARGET_BUDGET, end_step, factors, final_ranks, make, optimizer_of
from run_loops import backward, codes, found, right, train_rightly
from toy_models import TwoLayer, two_layer_batch

from adalora_core import allocate_on_step
from adalora_core.bridge import attach
from adalora_core.floor.errors import RunError

STEPS = 60
SCHEDULE = {"total_step": STEPS, "tinit": 4, "tfinal": 20}


def model_of(door: str, base: Any = None, **changes: Any) -> Any:
    torch.manual_seed(7)
    return make(door, TwoLayer() if base is None else base, **SCHEDULE | changes).train()


# --- nothing is learned ---------------------------------------------------------------------------


def learns_at_rate_0(model: Any) -> None:
    groups = [
        {"params": factors(model, "AB")},
        {"params": factors(model, "E"), "lr": 0.0, "weight_decay": 0.0},
    ]
    train_rightly(model, torch.optim.AdamW(groups, lr=1e-2), range(STEPS))


def learns_for_a_quarter(model: Any) -> None:
    optimizer = optimizer_of(model)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=STEPS // 4)
    for step in range(STEPS):
        right(model, optimizer, step)
        scheduler.step()


def unfreezes_a_and_b(model: Any) -> None:
    for name, each in model.named_parameters():
        each.requires_grad_("lora_A" in name or "lora_B" in name)
    train_rightly(model, optimizer_of(model), range(STEPS))


def freezes_under_the_hook(model: Any) -> None:
    optimizer = optimizer_of(model)
    allocate_on_step(optimizer, model)
    freezes_by_hand(model)
    for step in range(STEPS):
        batch = two_layer_batch(step)
        model(batch["x"].requires_grad_(), batch["labels"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def rounds_updates_away(model: Any) -> None:
    model.to(torch.bfloat16)
    optimizer = optimizer_of(model, lr=1e-5)
    for step in range(STEPS):
        batch = two_layer_batch(step)
        model(batch["x"].bfloat16(), batch["labels"]).loss.backward()
        end_step(model, optimizer, step)


UNLEARNED: dict[str, tuple[Callable[[Any], None], str]] = {
    "rate 0": (learns_at_rate_0, r"E has not changed at 15 calls .* learning rate is 0"),
    "rate 0 later": (learns_for_a_quarter, r"E has not changed at 15 calls .* rate is 0.* step 29"),
    "A and B alone": (unfreezes_a_and_b, r"E has not changed at 15 calls .*frozen"),
    "frozen under the hook": (freezes_under_the_hook, r"E has not changed at 15 calls .*frozen"),
    "rounded": (rounds_updates_away, r"\d\d % of .*bfloat16"),
}


@pytest.mark.parametrize("run", UNLEARNED)
def test_run_that_does_not_learn_is_found_at_a_call_once(
    run: str, door: str, tmp_path: Path
) -> None:
    model = model_of(door)
    train, message = UNLEARNED[run]
    with pytest.warns(match=f"^ADA822: .*{message}"):
        train(model)
    assert [*model.run_report().findings] == ["ADA822"]
    assert codes(lambda: model.save_pretrained(tmp_path)) == []


def freezes_by_hand(model: Any) -> None:
    for each in factors(model, "AEB"):
        each.requires_grad_(False)


def freezes_for_quantised_training(model: Any) -> None:
    peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


@pytest.mark.parametrize("freeze", [freezes_by_hand, freezes_for_quantised_training])
def test_frozen_adapter_refuses_to_be_trained_and_allocated(
    freeze: Callable[[Any], None], door: str
) -> None:
    model = model_of(door)
    optimizer = optimizer_of(model)
    freeze(model)
    loss = model(**two_layer_batch(0)).loss
    with pytest.raises(RunError, match=r"^ADA817: .*frozen.*set_adapter"):
        loss.backward()
    # Inputs that need gradients, as for gradient checkpointing, let the backward pass go through.
    batch = two_layer_batch(0)
    model(batch["x"].requires_grad_(), batch["labels"]).loss.backward()
    optimizer.step()
    with pytest.raises(RunError, match=r"^ADA817: .*6 factors .*frozen.*set_adapter"):
        model.base_model.update_and_allocate(0)


def test_disabled_adapter_that_is_trained_is_found(door: str) -> None:
    model = model_of(door)
    optimizer = optimizer_of(model)

    def run() -> None:
        for step in range(STEPS):
            batch = two_layer_batch(step)
            model(batch["x"].requires_grad_(), batch["labels"]).loss.backward()
            end_step(model, optimizer, step)

    with model.disable_adapter():
        if door == "adalora_core":  # whose factors stay trainable: the penalty reaches them
            assert codes(run) == ["ADA805"]
        else:
            with pytest.raises(RunError, match=r"^ADA817: .*6 .*disabled.*enable_adapter_layers"):
                run()


def test_adapter_frozen_after_it_has_learned_is_found_at_the_next_call(door: str) -> None:
    model = model_of(door, modules_to_save=["head"])
    optimizer = optimizer_of(model)
    train_rightly(model, optimizer, range(10))
    freezes_by_hand(model)
    with pytest.warns(match=r"^ADA817: .*6 factors .*frozen"):
        right(model, optimizer, 10)
    assert codes(lambda: train_rightly(model, optimizer, range(11, 20))) == []


@pytest.mark.parametrize("end", ["saved", "reported"])
def test_clones_of_the_factors_that_are_trained_instead_are_found_at_the_end(
    end: str, door: str, tmp_path: Path
) -> None:
    model = model_of(door)
    named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    clones = {name: each.detach().clone().requires_grad_() for name, each in named}
    optimizer = torch.optim.AdamW(clones.values(), lr=1e-2)
    for step in range(STEPS):
        outputs = torch.func.functional_call(model, clones, kwargs=two_layer_batch(step))
        outputs.loss.backward()
        end_step(model, optimizer, step)
    with pytest.warns(match=r"^ADA822: E of the adapter 'default' is 0 in every matrix after 60 "):
        model.save_pretrained(tmp_path) if end == "saved" else model.run_report()


@pytest.mark.parametrize("end", ["saved", "reported"])
def test_frozen_adapter_beside_a_trained_head_is_found_at_the_end(
    end: str, door: str, tmp_path: Path
) -> None:
    model = model_of(door, modules_to_save=["head"])
    freezes_by_hand(model)
    optimizer = optimizer_of(model)
    for step in range(36):
        backward(model, step)
        optimizer.step()
        optimizer.zero_grad()
    with pytest.warns(match=r"^ADA822: .*6 factors .*frozen.* 36 "):
        model.save_pretrained(tmp_path) if end == "saved" else model.run_report()


# --- the file is not what was trained ------------------------------------------------------------


def unfreezes_everything(model: Any) -> None:
    model.requires_grad_(True)
    train_rightly(model, optimizer_of(model), range(STEPS))


def unfreezes_the_head(model: Any) -> None:
    model.base_model.model.head.requires_grad_(True)
    train_rightly(model, optimizer_of(model), range(STEPS))


def saves_the_average(model: Any) -> None:
    optimizer, total = optimizer_of(model), {}
    for step in range(STEPS):
        right(model, optimizer, step)
        for name, each in model.state_dict().items():
            total[name] = total.get(name, 0) + each / STEPS
    model.load_state_dict(total)


def saves_the_best(model: Any) -> None:
    optimizer = optimizer_of(model)
    train_rightly(model, optimizer, range(12))
    best = {name: each.clone() for name, each in model.state_dict().items()}
    train_rightly(model, optimizer, range(12, STEPS))
    model.load_state_dict(best)


LACKING: dict[str, tuple[Callable[[Any], None], str]] = {
    "everything": (unfreezes_everything, r"6 parameters .*first\.base_layer\.weight"),
    "the head": (unfreezes_the_head, r"2 parameters .*head\.weight"),
    "an average": (saves_the_average, r"\d+ triplets .* target 16"),
    "the best": (saves_the_best, r"\d+ triplets .* target 16"),
}


@pytest.mark.parametrize("run", LACKING)
def test_file_that_lacks_what_was_trained_is_found_when_it_is_saved(
    run: str, door: str, tmp_path: Path
) -> None:
    model = model_of(door)
    train, message = LACKING[run]
    assert codes(lambda: train(model)) == []
    assert not model.run_report().findings
    with pytest.warns(match=f"^ADA823: .*{message}"):
        model.save_pretrained(tmp_path)
    assert codes(lambda: model.save_pretrained(tmp_path)) == []


def test_untouched_adapter_that_is_saved_alone_is_found(tmp_path: Path) -> None:
    model = model_of("attached")
    model.add_adapter("other", type(model.peft_config["default"])(**OTHER))
    train_rightly(model, optimizer_of(model), range(STEPS))
    assert codes(lambda: model.save_pretrained(tmp_path)) == []
    with pytest.warns(match=r"^ADA823: .*'other'.*'default'.* 60 steps"):
        model.save_pretrained(tmp_path, selected_adapters=["other"])
    assert codes(lambda: model.save_pretrained(tmp_path, selected_adapters=["default"])) == []


OTHER = SCHEDULE | {"target_modules": ["first"], "init_r": 4, "target_r": 2, "inference_mode": True}


# --- the schedule is not that of the run ----------------------------------------------------------


def test_two_steps_of_the_optimizer_per_call_are_found(door: str) -> None:
    model = model_of(door)
    optimizer = optimizer_of(model)

    def run() -> None:
        for step in range(STEPS):
            backward(model, 2 * step)
            optimizer.step()
            optimizer.zero_grad()
            right(model, optimizer, step)

    (warning,) = found(run)
    assert str(warning.message).startswith("ADA813: the optimizer made 6 steps")


def test_steps_as_fractions_are_refused(door: str) -> None:
    model = model_of(door)
    optimizer = optimizer_of(model)
    right(model, optimizer, 0)
    backward(model, 1)
    with pytest.raises(TypeError, match="interpreted as an integer"):
        model.base_model.update_and_allocate(1 / STEPS)


def test_finalize_in_mid_run_is_found_and_the_budget_stays(door: str, tmp_path: Path) -> None:
    model = model_of(door)
    optimizer = optimizer_of(model)
    train_rightly(model, optimizer, range(20))
    model.base_model.finalize()
    with pytest.warns(match=r"^ADA824: .*step 20 of 60.*finalize"):
        right(model, optimizer, 20)
    assert codes(lambda: train_rightly(model, optimizer, range(21, 30))) == []
    assert sum(final_ranks(model)) == TARGET_BUDGET
    train_rightly(model, optimizer, range(30, STEPS))
    assert sum(final_ranks(model)) == TARGET_BUDGET
    assert codes(lambda: model.save_pretrained(tmp_path)) == []


@pytest.mark.parametrize("call", ["merge_and_unload", "unload"])
def test_run_that_goes_on_without_its_adapter_is_refused(call: str, door: str) -> None:
    model = model_of(door, modules_to_save=["head"])
    optimizer = optimizer_of(model)
    found(lambda: (train_rightly(model, optimizer, range(12)), getattr(model, call)()))
    model.base_model.model.requires_grad_(True)
    backward(model, 12)
    with pytest.raises(RunError, match=rf"^ADA817: .*update_and_allocate.*{call}"):
        model.base_model.update_and_allocate(12)
    with pytest.raises(RunError, match="ADA817"):
        model.run_report()


@pytest.mark.parametrize("longer", [False, True])
def test_finished_run_that_is_resumed_is_named_as_finished(
    longer: bool, door: str, tmp_path: Path
) -> None:
    model = model_of(door)
    train_rightly(model, optimizer_of(model), range(STEPS))
    model.save_pretrained(tmp_path)
    resumed = LOADERS[door].from_pretrained(TwoLayer(), tmp_path, is_trainable=True).train()
    if longer:
        resumed.peft_config["default"].total_step = 2 * STEPS
    message = r"^ADA808: .*got step 60 first.* finished run of 60 steps"
    with pytest.warns(match=message):
        train_rightly(resumed, optimizer_of(resumed), range(STEPS, STEPS + 5))
    assert [*resumed.run_report().findings] == ["ADA808"]


# --- wrapped twice --------------------------------------------------------------------------------


def test_base_that_is_attached_twice_is_refused() -> None:
    base = TwoLayer()
    config = make("attached", TwoLayer()).peft_config["default"]
    attach(peft.get_peft_model(base, config))
    with pytest.warns(UserWarning, match="multiple adapters|second time"):
        again = peft.get_peft_model(base, config)
    with pytest.raises(RunError, match=r"^ADA801: .*add_adapter"):
        attach(again)
