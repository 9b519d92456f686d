"""AdaLoraCallback under transformers' Trainer: allocation, logs, accumulation, evaluation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import Attached, live_ranks, make
from toy_models import tiny_llama
from trainer_runs import (
    LLAMA,
    STEPS,
    TARGET_BUDGET,
    Sequences,
    arguments_for,
    llama,
    trainer_for,
)  # fmt: skip
from transformers import Trainer, TrainerCallback

from adalora_core import ConfigError
from adalora_core.trainers.transformers import AdaLoraCallback


def allocator_of(model: Any) -> Any:
    return model.base_model.trained_adapters()[0].allocator


class TestOneRun:
    @pytest.fixture(params=["attached", "peft"])
    def trainer(self, request: pytest.FixtureRequest, tmp_path: Path) -> Trainer:
        # PEFT's configurations alone need a number.
        total_step: Any = STEPS
        if request.param == "peft":
            request.getfixturevalue("installed")
            total_step = "auto"
        trainer = trainer_for(llama(request.param, total_step=total_step), tmp_path)
        trainer.train()
        return trainer

    def test_run_is_bound_to_its_steps_and_ends_at_its_budget(self, trainer: Trainer) -> None:
        assert trainer.model.peft_config["default"].total_step == STEPS
        assert sum(live_ranks(trainer.model)) == TARGET_BUDGET
        assert allocator_of(trainer.model).last_step == STEPS - 1

    def test_logs_tell_the_allocation(self, trainer: Trainer) -> None:
        logs = [each for each in trainer.state.log_history if "loss" in each]
        assert [each["step"] for each in logs] == [4, 8, 12, 16, 20, 24]
        assert [each["phase"] for each in logs] == [0, 1, 1, 1, 2, 2]
        budgets = [each["budget"] for each in logs]
        assert (budgets[0], budgets[-1]) == (24, TARGET_BUDGET)
        assert budgets == sorted(budgets, reverse=True)
        assert logs[-1]["mean_rank"] == 3.0
        assert {each["skipped_entries"] for each in logs} == {0}
        expected = trainer.model.base_model.orthogonality_penalty().item()
        assert logs[-1]["orthogonality"] == pytest.approx(expected)


def test_run_without_a_final_phase_is_finalized(tmp_path: Path) -> None:
    model = llama("attached", tfinal=0, deltaT=9)
    trainer_for(model, tmp_path).train()
    assert sum(live_ranks(model)) == TARGET_BUDGET


def test_writers_of_logs_see_the_numbers(tmp_path: Path) -> None:
    seen = []

    class Writer(TrainerCallback):
        def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
            seen.append(dict(logs))

    trainer = trainer_for(llama("attached"), tmp_path, callback=False)
    trainer.add_callback(Writer())
    AdaLoraCallback().add_to(trainer)
    trainer.train()
    names = {"budget", "mean_rank", "phase", "orthogonality", "skipped_entries"}
    assert names <= seen[0].keys()


@pytest.mark.slow
def test_fourfold_accumulation_equals_the_fourfold_batch(tmp_path: Path) -> None:
    whole = llama("attached", torch.float64)
    trainer_for(whole, tmp_path, per_device_train_batch_size=16).train()
    split = llama("attached", torch.float64)
    trainer_for(
        split, tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=4
    ).train()
    for (name, expected), found in zip(whole.named_parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, msg=name)
    assert live_ranks(split) == live_ranks(whole)


class Overflow(TrainerCallback):
    """Makes the scaled gradients of one step infinite."""

    STEP = 9

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, *, model: Any, **_: Any
    ) -> None:
        del args, control
        if state.global_step == self.STEP:
            next(each for each in model.parameters() if each.requires_grad).grad.fill_(torch.inf)


# The kernels of fused optimizers look for overflows themselves.
@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
def test_step_that_the_scaler_skipped_is_no_observation(optim: str, tmp_path: Path) -> None:
    averages = []

    class Averages(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            averages.append([each.clone() for each in allocator.statistics.smoothed])

    model = llama("attached")
    allocator = allocator_of(model)
    trainer = trainer_for(model, tmp_path, optim=optim, max_grad_norm=0.0)
    # fp16 needs a GPU; its scaler does not.
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    trainer.add_callback(Overflow())
    trainer.add_callback(Averages())
    trainer.train()
    unchanged = [
        all(map(torch.equal, before, after)) for before, after in itertools.pairwise(averages)
    ]
    # From the final phase on nothing is observed.
    observed = unchanged[: STEPS - 6 - 1]
    assert [step for step, same in enumerate(observed, 1) if same] == [Overflow.STEP]
    assert allocator.last_step == STEPS - 1
    assert allocator.statistics.skipped_entries == 0
    assert sum(live_ranks(model)) == TARGET_BUDGET


def test_callback_is_in_a_trainer_once(tmp_path: Path) -> None:
    arguments = {"label_smoothing_factor": 0.1}
    expected, model = llama("attached"), llama("attached")
    trainer_for(expected, tmp_path, **arguments).train()
    trainer = trainer_for(model, tmp_path, **arguments)
    AdaLoraCallback().add_to(trainer)
    trainer.train()
    assert all(map(torch.equal, model.parameters(), expected.parameters()))


@pytest.mark.parametrize("way", ["add_callback", "model_init"])
def test_base_is_not_saved_however_trainer_gets_callback_and_model(
    way: str, tmp_path: Path
) -> None:
    arguments = arguments_for(tmp_path, save_strategy="steps", save_steps=STEPS)
    if way == "model_init":
        trainer = Trainer(
            model_init=lambda: llama("attached"), args=arguments, train_dataset=Sequences()
        )
        AdaLoraCallback().add_to(trainer)
    else:
        trainer = Trainer(llama("attached"), arguments, train_dataset=Sequences())
        trainer.add_callback(AdaLoraCallback())
    trainer.train()
    files = {path.name for path in (tmp_path / f"checkpoint-{STEPS}").iterdir()}
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files


def test_schedule_for_a_run_of_another_length_is_told(tmp_path: Path) -> None:
    trainer = trainer_for(llama("attached"), tmp_path, max_steps=STEPS + 1)
    with pytest.warns(UserWarning, match=r"makes 25 optimizer steps.*total_step.*'default' is 24"):
        trainer.train()


class TestRefusals:
    @pytest.mark.usefixtures("installed")
    def test_schedule_longer_than_the_run_is_refused_when_it_begins(self, tmp_path: Path) -> None:
        model = llama("peft", total_step="auto", tinit=20, tfinal=20)
        with pytest.raises(ConfigError, match="budgeting phase"):
            trainer_for(model, tmp_path).train()

    def test_model_without_our_allocator_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="attach"):
            trainer_for(llama("peft"), tmp_path)
        with pytest.raises(TypeError, match="get_peft_model"):
            trainer_for(tiny_llama(), tmp_path)

    def test_adapter_for_inference_is_refused(self, tmp_path: Path) -> None:
        llama("attached").save_pretrained(tmp_path)
        trainer = trainer_for(Attached.from_pretrained(tiny_llama(), tmp_path), tmp_path)
        assert trainer.evaluate()["eval_loss"] > 0
        with pytest.raises(RuntimeError, match="is_trainable=True"):
            trainer.train()

    def test_model_of_this_package_is_refused_before_anything_runs(self, tmp_path: Path) -> None:
        model = make("adalora_core", tiny_llama(), **LLAMA)
        trainer = trainer_for(model, tmp_path, callback=False)
        with pytest.raises(TypeError, match=r"AdaLoraCallback: .* model with adalora_core\.peft"):
            AdaLoraCallback().add_to(trainer)
        with pytest.raises(TypeError, match=r"adalora_core\.peft"):
            Trainer(model, trainer.args, callbacks=[AdaLoraCallback()])
