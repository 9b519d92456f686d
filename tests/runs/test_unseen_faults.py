"""Mistakes in a run that nothing told: what no optimizer moves, and states that do not fit."""

from __future__ import annotations

import copy
import functools
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import LIBRARIES, LOADERS, SETTINGS, end_step, make, optimizer_of
from run_loops import backward, codes, found, ready, right, train_rightly, without_calls
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, OneCycleLR, StepLR
from toy_models import TwoLayer, two_layer_batch

from adalora_core.floor.errors import CheckpointError


def messages(run: Any) -> list[str]:
    return [str(each.message) for each in found(run)]


@pytest.mark.parametrize("changes", [{"modules_to_save": ["head"]}, {"bias": "lora_only"}])
def test_what_is_saved_as_trained_and_in_no_optimizer_is_named(
    door: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    model = make(door, TwoLayer(), **changes)
    factors = [each for name, each in model.named_parameters() if "lora_" in name]
    without_calls(model, torch.optim.AdamW(factors, lr=1e-2))
    (message,) = messages(lambda: model.save_pretrained(str(tmp_path / "one")))
    assert message.startswith("ADA802: no optimizer that made a step holds 2 parameters")
    assert ("head" if "modules_to_save" in changes else "bias") in message
    # A second optimizer, or a group that is added later, is right.
    model = make(door, TwoLayer(), **changes)
    without_calls(model, optimizer_of(model))
    assert not messages(lambda: model.save_pretrained(str(tmp_path / "other")))


def test_state_of_a_lora_adapter_is_told_by_the_missing_singular_values(door: str) -> None:
    lora = peft.LoraConfig(r=12, target_modules=["first", "second"])
    saved = peft.get_peft_model_state_dict(peft.get_peft_model(TwoLayer(), lora))
    state = {name.replace(".weight", ".default"): each for name, each in saved.items()}
    model = make(door, TwoLayer())
    (message,) = messages(lambda: model.load_state_dict(state, strict=False))
    assert message.startswith("ADA823: load_state_dict gave the adapter 'default' lora_A and")
    assert "no lora_E" in message


def test_state_of_a_compiled_model_that_loads_nothing_is_told(door: str) -> None:
    model = make(door, TwoLayer())
    state = {f"_orig_mod.{name}": each for name, each in model.state_dict().items()}
    (message,) = messages(lambda: model.load_state_dict(state, strict=False))
    assert message.startswith("ADA823: load_state_dict gave the adapter 'default' nothing")
    assert "_orig_mod." in message
    assert not messages(lambda: model.load_state_dict(model.state_dict()))


@pytest.mark.parametrize(
    ("changes", "code"), [({"deltaT": 50}, "ADA203"), ({"alpha_pattern": {"first": 4}}, "ADA405")]
)
def test_setting_that_a_run_ignores_is_told(door: str, changes: dict[str, Any], code: str) -> None:
    if (door, code) == ("adalora_core", "ADA203"):
        pytest.skip("our own configuration is checked where it is made, and warns of less")
    library = LIBRARIES[door]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = library.AdaLoraConfig(**SETTINGS | changes)
        library.get_peft_model(TwoLayer(), config)
    assert sum(code in str(each.message) for each in caught) == 1


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (lambda each: LambdaLR(each, lambda step: min(1, step / 200)), True),
        (lambda each: LambdaLR(each, lambda step: max(1e-3, 1 - step / 8)), True),
        (lambda each: StepLR(each, SETTINGS["total_step"] // 3), False),
        (lambda each: CosineAnnealingWarmRestarts(each, SETTINGS["total_step"] // 2), False),
        (lambda each: OneCycleLR(each, 1e-2, SETTINGS["total_step"] + 1), False),
    ],
    ids=["in its warm-up", "over early", "steps", "restarts in the middle", "one cycle"],
)
def test_schedule_of_other_steps_than_the_run_has_is_told(
    door: str, schedule: Any, told: bool
) -> None:
    def run() -> None:
        for number in range(SETTINGS["total_step"]):
            right(model, optimizer, number)
            scheduler.step()

    model = make(door, TwoLayer())
    optimizer = optimizer_of(model)
    scheduler = schedule(optimizer)
    assert any("its schedule has" in each for each in messages(run)) == told


@pytest.mark.parametrize(("scale", "told"), [(1.0, True), (0.25, False)])
def test_gradient_of_the_penalty_at_each_micro_batch_is_told(
    door: str, scale: float, told: bool
) -> None:
    model = make(door, TwoLayer()).train()
    model.base_model.leave_penalty_out_of_loss()
    optimizer = optimizer_of(model)

    def run() -> None:
        for step in range(30):
            for micro in range(4):
                backward(model, 4 * step + micro, 0.25)
                model.base_model.add_orthogonality_gradient_(scale)
            end_step(model, optimizer, step)

    found_here = messages(run)
    assert [each[:6] for each in found_here] == ["ADA820"] * told
    if told:
        assert "added 4 times to the gradients of one step" in found_here[0]


@pytest.mark.parametrize("call", ["by the loop", "by the package"])
def test_gradients_that_are_never_cleared_are_told(door: str, call: str) -> None:
    model, optimizer = ready(door)

    def run() -> None:
        for step in range(30):
            backward(model, step)
            optimizer.step()
            if call == "by the loop":
                model.base_model.update_and_allocate(step)

    (message,) = messages(run)
    assert message.startswith("ADA827: the gradients of the adapter 'default' were not cleared")
    assert "3 steps in a row" in message


def zero_in_place(model: Any, optimizer: torch.optim.Optimizer) -> None:
    del model
    optimizer.zero_grad(set_to_none=False)


def zero_behind_autograd(model: Any, optimizer: torch.optim.Optimizer) -> None:
    del optimizer
    for each in model.parameters():
        if each.grad is not None:
            each.grad.data.zero_()


@pytest.mark.parametrize("clear", [zero_in_place, zero_behind_autograd])
def test_gradients_that_are_cleared_in_any_way_are_quiet(door: str, clear: Any) -> None:
    model, optimizer = ready(door)
    values = [each for name, each in model.named_parameters() if "lora_E" in name]

    def run() -> None:
        for step in range(30):
            loss = model(**two_layer_batch(step)).loss
            torch.autograd.grad(loss, values, retain_graph=True)  # as of an inner step
            clear(model, optimizer)
            loss.backward()
            optimizer.step()
            model.base_model.update_and_allocate(step)

    assert not messages(run)


def test_state_of_a_merged_model_is_told_where_it_is_loaded(door: str, tmp_path: Path) -> None:
    if door == "adalora_core":
        pytest.skip("our own model has no merge that can be undone")
    model = make(door, TwoLayer())
    without_calls(model, optimizer_of(model))
    model.merge_adapter()
    torch.save(model.state_dict(), tmp_path / "merged.pt")
    assert not messages(lambda: model.load_state_dict(model.state_dict()))
    state = torch.load(tmp_path / "merged.pt", weights_only=True)
    (message,) = messages(lambda: make(door, TwoLayer()).load_state_dict(state))
    assert message.startswith("ADA828: the state of a merged model is loaded beside the adapter")
    model.unmerge_adapter()
    assert not messages(lambda: make(door, TwoLayer()).load_state_dict(model.state_dict()))


def test_index_of_a_layer_that_is_not_there_is_told(door: str) -> None:
    layers = [torch.nn.ModuleDict({"proj": torch.nn.Linear(4, 4)}) for _ in "ab"]
    base = torch.nn.ModuleDict({"layers": torch.nn.ModuleList(layers)})
    settings = {"target_modules": ["proj"], "layers_pattern": "layers"}
    expected = r"ADA807: layers_to_transform 5 matches no module"
    other = copy.deepcopy(base)
    with pytest.warns(match=expected):
        make(door, base, **settings, layers_to_transform=[1, 5])
    assert not messages(lambda: make(door, other, **settings, layers_to_transform=[1]))


def test_two_files_of_different_weights_are_named(door: str, tmp_path: Path) -> None:
    loader, folder = LOADERS[door], str(tmp_path)
    make(door, TwoLayer()).save_pretrained(folder)
    tensors = peft.utils.save_and_load.load_peft_weights(folder)
    torch.save(tensors, tmp_path / "adapter_model.bin")
    loader.from_pretrained(TwoLayer(), folder)  # two forms of one save
    torch.save({name: each + 1 for name, each in tensors.items()}, tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin.*adapter_model\.safetensors"):
        loader.from_pretrained(TwoLayer(), folder)


# --- weak or badly said ---------------------------------------------------------------------------


def test_average_of_a_model_that_is_saved_whole_is_told(door: str, tmp_path: Path) -> None:
    model = make(door, TwoLayer()).train()
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = optimizer_of(model)
    for step in range(30):
        right(model, optimizer, step)
        average.update_parameters(model)
    (message,) = messages(lambda: average.module.save_pretrained(str(tmp_path)))
    assert message.startswith("ADA811: the adapter 'default' is saved at step 0 of 30 with 24")
    average.module.base_model.finalize()
    assert not messages(lambda: average.module.save_pretrained(str(tmp_path)))


def test_optimizers_that_step_and_clear_in_the_backward_pass_are_told_as_cleared(door: str) -> None:
    model = make(door, TwoLayer()).train()

    def step_of(optimizer: torch.optim.Optimizer, _: Any) -> None:
        optimizer.step()
        optimizer.zero_grad()

    for each in model.parameters():
        if each.requires_grad:
            of_one = functools.partial(step_of, torch.optim.AdamW([each], lr=1e-2))
            each.register_post_accumulate_grad_hook(of_one)

    def run() -> None:
        for step in range(30):
            backward(model, step)
            model.base_model.update_and_allocate(step)

    (message,) = messages(run)
    assert message.startswith("ADA803: the gradients of the adapter 'default' were cleared")


def test_steps_that_are_all_skipped_are_told_by_their_cause(door: str) -> None:
    model = make(door, TwoLayer(), total_step=36).train()
    optimizer, scaler = optimizer_of(model), torch.amp.GradScaler("cpu")

    def run() -> None:
        for step in range(36):
            scaler.scale(model(**two_layer_batch(step)).loss * torch.nan).backward()
            scaler.step(optimizer)
            scaler.update()
            model.base_model.update_and_allocate(step)
            optimizer.zero_grad()

    (message,) = messages(run)
    assert message.startswith("ADA806: the gradients of the adapter 'default' were not finite")
    assert "at 30 calls in a row" in message
    assert "skipped" in message
    assert codes(model.run_report) == []


def test_number_of_micro_batches_as_the_step_is_told_by_its_cause_at_the_third_jump(
    door: str,
) -> None:
    model, optimizer = ready(door)

    def run() -> None:
        for micro in range(16):
            backward(model, micro)
            if micro % 4 == 3:
                optimizer.step()
                model.base_model.update_and_allocate(micro)  # adalora: ignore[ADA903]
                optimizer.zero_grad()

    (message,) = messages(run)
    assert message.startswith("ADA808: update_and_allocate of the adapter 'default' got step 15")
    assert "4 at a time, as a count of micro-batches does" in message


def test_old_state_that_is_saved_is_told(door: str, tmp_path: Path) -> None:
    if door == "adalora_core":
        pytest.skip("a state_dict is for divided models there")
    model, optimizer = ready(door)
    train_rightly(model, optimizer, range(12))
    old = copy.deepcopy(model.state_dict())
    train_rightly(model, optimizer, range(12, 30))
    (message,) = messages(lambda: model.save_pretrained(str(tmp_path), state_dict=old))
    assert message.startswith("ADA823: ")
    assert "16 are saved, target 16" in message


def test_folder_of_lora_is_refused_by_its_method(tmp_path: Path) -> None:
    lora = peft.get_peft_model(TwoLayer(), peft.LoraConfig(target_modules=["first"]))
    lora.save_pretrained(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"holds a LoRA adapter; PeftModel"):
        LOADERS["adalora_core"].from_pretrained(TwoLayer(), tmp_path)
