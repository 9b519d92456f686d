"""AdaLoraCallback under transformers' Trainer: allocation, logs, accumulation, evaluation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adalora_runs import OURS, live_ranks
from toy_models import tiny_llama, token_batch
from trainer_runs import STEPS, TARGET_BUDGET, Sequences, llama, trainer_for
from transformers import Trainer, TrainerCallback, TrainingArguments

from adalora_core import AdaLoraModel, ConfigError
from adalora_core.integrations.transformers import AdaLoraCallback

if TYPE_CHECKING:
    from pathlib import Path


def allocator_of(model: Any) -> Any:
    return model.base_model.trained_adapters()[0].allocator


class TestOneRun:
    @pytest.fixture
    def trainer(self, tmp_path: Path) -> Trainer:
        trainer = trainer_for(llama("adalora_core", total_step="auto"), tmp_path)
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
        expected = trainer.model.orthogonality_penalty().item()
        assert logs[-1]["orthogonality"] == pytest.approx(expected)

    def test_evaluation_loss_is_the_task_loss(self, trainer: Trainer) -> None:
        found = trainer.evaluate()["eval_loss"]
        batch = torch.utils.data.default_collate(_all(8))
        with torch.no_grad():
            task = trainer.model.get_base_model()(**batch).loss
        assert found == pytest.approx(float(task), rel=1e-5)
        assert trainer.model.orthogonality_penalty().item() > 0.01


def _all(count: int) -> list[dict[str, torch.Tensor]]:
    sequences = Sequences(count)
    return [sequences[index] for index in range(count)]


def test_run_without_a_final_phase_is_finalized(tmp_path: Path) -> None:
    model = llama("adalora_core", tfinal=0, deltaT=9)
    trainer_for(model, tmp_path).train()
    assert sum(live_ranks(model)) == TARGET_BUDGET


def test_writers_of_logs_see_the_numbers(tmp_path: Path) -> None:
    seen = []

    class Writer(TrainerCallback):
        def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
            seen.append(dict(logs))

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=4,
        logging_steps=4,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        save_strategy="no",
    )
    trainer = Trainer(
        llama("adalora_core"), arguments, train_dataset=Sequences(), callbacks=[Writer()]
    )
    AdaLoraCallback().add_to(trainer)
    trainer.train()
    names = {"budget", "mean_rank", "phase", "orthogonality", "skipped_entries"}
    assert names <= seen[0].keys()


@pytest.mark.parametrize("library", OURS)
def test_fourfold_accumulation_equals_the_fourfold_batch(library: str, tmp_path: Path) -> None:
    whole = llama(library, torch.float64)
    trainer_for(whole, tmp_path, per_device_train_batch_size=16).train()
    split = llama(library, torch.float64)
    trainer_for(
        split, tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=4
    ).train()
    for (name, expected), found in zip(whole.named_parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, msg=name)
    assert live_ranks(split) == live_ranks(whole)


def test_step_that_the_scaler_skipped_is_no_observation(tmp_path: Path) -> None:
    model = llama("adalora_core").train()
    trainer = trainer_for(model, tmp_path)
    (callback,) = (
        each for each in trainer.callback_handler.callbacks if isinstance(each, AdaLoraCallback)
    )

    def step(number: int, *, skipped: bool) -> list[torch.Tensor]:
        model(**token_batch(number)).loss.backward()
        callback.on_optimizer_step(
            trainer.args,
            SimpleNamespace(global_step=number),
            trainer.control,
            model=model,
            optimizer=SimpleNamespace(step_was_skipped=skipped),
        )
        model.zero_grad()
        return [each.clone() for each in allocator_of(model).statistics.smoothed]

    before = step(0, skipped=False)
    unchanged = step(1, skipped=True)
    assert all(map(torch.equal, before, unchanged))
    assert allocator_of(model).last_step == 1
    assert not all(map(torch.equal, before, step(2, skipped=False)))


class TestRefusals:
    def test_schedule_longer_than_the_run_is_refused_when_it_begins(self, tmp_path: Path) -> None:
        model = llama("adalora_core", total_step="auto", tinit=20, tfinal=20)
        with pytest.raises(ConfigError, match="budgeting phase"):
            trainer_for(model, tmp_path).train()

    def test_model_without_our_allocator_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="attach"):
            trainer_for(llama("peft"), tmp_path)
        with pytest.raises(TypeError, match="get_peft_model"):
            trainer_for(tiny_llama(), tmp_path)

    def test_model_stays_an_adalora_model(self, tmp_path: Path) -> None:
        model = llama("adalora_core")
        trainer_for(model, tmp_path)
        assert isinstance(model, AdaLoraModel)
        assert type(model).save_pretrained is AdaLoraModel.save_pretrained
