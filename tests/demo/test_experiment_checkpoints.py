"""A checkpoint folder that Trainer writes in the demo is small, in every phase."""

from __future__ import annotations

import dataclasses

import pytest
from adalora_runs import allocator_of
from demo_loops import prepare, trainer_for

from adalora_core.demo.settings import FULL, QUICK

LIMIT = 5_000_000
SETTINGS = dataclasses.replace(QUICK, tinit=4)
PHASES = {5: "warmup", 10: "budgeting", 15: "budgeting", 20: "final"}
"""Checkpoints by the number of steps made, and the phase of the last of them."""


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trainer", "peft"])
def test_checkpoint_in_each_phase_is_under_5_mb(loop, tmp_path):
    phases = {}
    model, head, words = prepare(SETTINGS, loop)

    def on_step(step: int, loss: float) -> None:
        del loss
        phases[step + 1] = allocator_of(model).phase.value

    trainer = trainer_for(
        model, head, words, SETTINGS, on_step, tmp_path, save_strategy="steps", save_steps=5
    )
    trainer.train()
    assert {step: phases[step] for step in PHASES} == PHASES
    log_of_a_full_run = len(repr(trainer.state.log_history)) * FULL.total_step / SETTINGS.total_step
    for step in PHASES:
        files = {
            path.name: path.stat().st_size for path in (tmp_path / f"checkpoint-{step}").iterdir()
        }
        assert "model.safetensors" not in files
        assert {"adapter_model.safetensors", "optimizer.pt"} <= set(files)
        assert any(name.startswith("adalora_state.") for name in files)
        assert sum(files.values()) + log_of_a_full_run < LIMIT, files
