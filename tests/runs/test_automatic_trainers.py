"""Trainers in which only the import was changed, or `attach` was called, and nothing allocates."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import GradientState
from adalora_runs import LOADERS, allocator_of, make, optimizer_of
from run_loops import codes, found
from toy_models import TwoLayer, tiny_llama, token_batch, two_layer_batch
from trainer_runs import STEPS, TARGET_BUDGET, Sequences, llama, trainer_for

from adalora_core import allocate_on_step, bridge

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def imported() -> Iterator[None]:
    """Install the bridge, as the changed import does."""
    GradientState._reset_state()
    bridge.install()
    yield
    bridge.uninstall()


plain_trainer = functools.partial(trainer_for, callback=False)


def assert_right(model: Any, budget: int, caplog: pytest.LogCaptureFixture) -> None:
    assert allocator_of(model).budget == budget
    assert allocator_of(model).target_reached
    (record,) = (each for each in caplog.records if each.name == "adalora_core")
    assert record.getMessage() == model.base_model.run_report().automatic


def kept_in(base: Any, folder: Path) -> int:
    """Return the triplets of what PEFT alone loads."""
    bridge.uninstall()
    model = peft.PeftModel.from_pretrained(base, folder)
    return sum(len(each) for name, each in model.named_parameters() if "lora_E" in name)


def test_trainer_resumes_its_checkpoint_like_the_uninterrupted_run(tmp_path: Path) -> None:
    whole = llama("peft")
    saving = {"save_strategy": "steps", "save_steps": 10}
    assert not codes(plain_trainer(whole, tmp_path, **saving).train)
    state = sorted(each.name for each in (tmp_path / "checkpoint-10").iterdir())
    assert any("adalora_state" in name for name in state)
    resumed = llama("peft")
    trainer = plain_trainer(resumed, tmp_path / "other")
    assert not codes(lambda: trainer.train(resume_from_checkpoint=tmp_path / "checkpoint-10"))
    assert allocator_of(resumed).budget == TARGET_BUDGET
    for expected, each in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(each, expected, rtol=0, atol=0)


def test_trainer_resumes_a_checkpoint_from_before_the_decision(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}
    first = plain_trainer(llama("peft"), tmp_path, **saving, max_steps=2)
    assert not codes(first.train)
    resumed = llama("peft")
    trainer = plain_trainer(resumed, tmp_path / "other")
    assert not codes(lambda: trainer.train(resume_from_checkpoint=tmp_path / "checkpoint-2"))
    assert allocator_of(resumed).last_step == STEPS - 1
    assert allocator_of(resumed).budget == TARGET_BUDGET


def test_trainer_with_the_callback_is_not_called_for(tmp_path: Path) -> None:
    model = llama("peft")
    assert not codes(trainer_for(model, tmp_path).train)
    assert not model.base_model.run_report().automatic


class _Scaler:
    """Skips each fifth step, as a scaler does that finds an overflow."""

    def __init__(self) -> None:
        self.calls = 0

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.calls += 1
        if self.calls % 5:
            optimizer.step()


@pytest.mark.parametrize("skips", [False, True])
def test_accelerate_with_accumulation_equals_the_hook(skips: bool) -> None:
    results = []
    for with_hook in (False, True):
        torch.manual_seed(7)
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
        model = make("peft", TwoLayer(), total_step=30, tinit=6, tfinal=8).train()
        inner = optimizer_of(model)
        wrapped, optimizer = accelerator.prepare(model, inner)
        if with_hook:
            allocate_on_step(optimizer, model)
        scaler = _Scaler()
        for step in range(4 * 30):
            with accelerator.accumulate(wrapped):
                accelerator.backward(wrapped(**two_layer_batch(step)).loss)
                if skips and accelerator.sync_gradients:
                    scaler.step(inner)
                else:
                    optimizer.step()
                optimizer.zero_grad()
        allocator = allocator_of(model)
        results.append(([*model.parameters()], allocator.mask, allocator.last_step))
        GradientState._reset_state()
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert results[0][2] == (23 if skips else 29)


def test_lightning_reaches_its_budget(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = llama("peft")

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self.model(**batch).loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer_of(self.model)

    module = Module()
    loader = torch.utils.data.DataLoader(Sequences(), 4)
    trainer = lightning.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    assert not codes(lambda: trainer.fit(module, loader))
    assert not codes(lambda: module.model.save_pretrained(tmp_path / "result"))
    assert_right(module.model, TARGET_BUDGET, caplog)
    assert kept_in(tiny_llama(), tmp_path / "result") == TARGET_BUDGET


def test_compiled_model_reaches_its_budget(caplog: pytest.LogCaptureFixture) -> None:
    model = llama("peft").train()
    compiled, optimizer = torch.compile(model, backend="aot_eager"), optimizer_of(model)

    def train() -> None:
        for step in range(STEPS):
            compiled(**token_batch(step)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    assert not codes(train)
    assert_right(model, TARGET_BUDGET, caplog)


def test_compiled_step_of_an_optimizer_is_reported_at_the_save(tmp_path: Path) -> None:
    """It runs no hook."""
    model = llama("peft").train()
    optimizer = optimizer_of(model)
    step_of = torch.compile(optimizer.step, backend="eager")

    def train() -> None:
        for step in range(12):
            model(**token_batch(step)).loss.backward()
            step_of()
            optimizer.zero_grad()
        model.save_pretrained(tmp_path)

    assert "ADA813" in str(found(train)[-1].message)
    assert LOADERS["peft"] is peft.PeftModel
