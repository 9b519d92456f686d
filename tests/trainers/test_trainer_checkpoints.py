"""Trainer's checkpoints: stopped in each phase and resumed, the run is the uninterrupted one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adalora_runs import live_ranks
from trainer_runs import STEPS, llama, trainer_for


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(3, marks=pytest.mark.slow, id="warmup"),
        pytest.param(11, id="budgeting"),
        pytest.param(20, marks=pytest.mark.slow, id="final"),
    ],
)
def test_resumed_run_equals_the_uninterrupted_one(stop: int, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": stop}
    whole = llama("attached")
    trainer_for(whole, tmp_path, **saving).train()
    resumed = llama("attached")
    checkpoint = tmp_path / f"checkpoint-{stop}"
    trainer_for(resumed, tmp_path / "again").train(resume_from_checkpoint=str(checkpoint))
    assert resumed.peft_config["default"].rank_pattern == whole.peft_config["default"].rank_pattern
    for (name, expected), found in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(found, expected), name


@pytest.mark.usefixtures("installed")
def test_resumed_auto_run_takes_its_length_from_the_checkpoint(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 11}
    whole = llama("peft", total_step="auto")
    trainer_for(whole, tmp_path, **saving).train()
    resumed = llama("peft", total_step="auto")
    trainer_for(resumed, tmp_path / "again").train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-11")
    )
    assert resumed.peft_config["default"].total_step == STEPS
    assert live_ranks(resumed) == live_ranks(whole)


@pytest.mark.filterwarnings("ignore:ADA812")
def test_best_checkpoint_is_loaded_as_it_was_evaluated(tmp_path: Path) -> None:
    # The evaluation at step 8 is the best by a wide margin: afterwards the rate is far too high.
    model = llama("attached")
    trainer = trainer_for(
        model,
        tmp_path,
        save_strategy="steps",
        save_steps=8,
        eval_strategy="steps",
        eval_steps=8,
        load_best_model_at_end=True,
        lr_scheduler_type="constant",
        learning_rate=3.0,
    )
    trainer.train()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.state.best_metric, rel=1e-4)
