"""Findings of runs under the optimizer's hook, Trainer and the bridge."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import LOADERS, make, optimizer_of
from run_loops import backward, codes, found, ready, right
from toy_models import TwoLayer, two_layer_batch
from trainer_runs import STEPS, llama, trainer_for

from adalora_core import allocate_on_step
from adalora_core.floor.errors import RunError
from adalora_core.trainers.transformers import AdaLoraCallback

pytestmark = pytest.mark.usefixtures("forget_dataloaders")


# --- the hook -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kept", "count"), [("head", 0), ("lora_A", 2), ("first.", 3)])
def test_hook_on_an_optimizer_without_some_factors_is_refused(
    library: str, kept: str, count: int
) -> None:
    model = make(library, TwoLayer())
    optimizer = torch.optim.AdamW([each for name, each in model.named_parameters() if kept in name])
    with pytest.raises(RunError, match=rf"^ADA802: AdamW holds {count} of the 6 factors"):
        allocate_on_step(optimizer, model)


def test_hook_on_an_adapter_that_a_script_has_frozen_is_refused(library: str) -> None:
    model = make(library, TwoLayer()).requires_grad_(False)
    head = torch.optim.AdamW(model.base_model.model.head.requires_grad_().parameters())
    with pytest.raises(RunError, match=r"^ADA817: .* 0 of the 6 factors .* all frozen.*set_adap"):
        allocate_on_step(head, model)


def test_second_hook_is_refused_until_the_first_is_removed(library: str) -> None:
    model, optimizer = ready(library)
    handle = allocate_on_step(optimizer, model)
    with pytest.raises(RunError, match=r"^ADA810: .*handle\.remove\(\)"):
        allocate_on_step(optimizer, model)
    handle.remove()
    allocate_on_step(optimizer, model)
    del optimizer
    allocate_on_step(optimizer_of(model), model)


def test_hook_on_a_frozen_adapter_is_refused(library: str, tmp_path: Path) -> None:
    make(library, TwoLayer()).save_pretrained(tmp_path)
    model = LOADERS[library].from_pretrained(TwoLayer(), tmp_path)
    with pytest.raises(RunError, match=r"^ADA817: .*is_trainable=True"):
        allocate_on_step(torch.optim.AdamW(model.parameters()), model)


def test_faults_beside_the_hook_are_found(library: str) -> None:
    def steps_of(loop: Any) -> list[str]:
        model, optimizer = ready(library)
        allocate_on_step(optimizer, model)
        return codes(lambda: [loop(model, optimizer, step) for step in range(6)])

    def with_nan(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
        backward(model, step, float("nan"))
        optimizer.step()
        optimizer.zero_grad()

    def without_penalty(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
        model(two_layer_batch(step)["x"]).logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    assert steps_of(with_nan) == ["ADA806"]
    assert steps_of(without_penalty) == ["ADA814"]
    assert steps_of(right) == ["ADA808"]


# --- Trainer --------------------------------------------------------------------------------------


def test_trainer_with_an_optimizer_without_the_factors_is_refused(tmp_path: Path) -> None:
    model = llama("attached")
    optimizer = torch.optim.AdamW([each for each in model.parameters() if not each.requires_grad])
    trainer = trainer_for(model, tmp_path)
    trainer.optimizer = optimizer
    with pytest.raises(RunError, match=r"^ADA802: .* holds 0 of the 12 factors"):
        trainer.train()


def test_two_callbacks_or_a_callback_beside_a_hook_are_refused(tmp_path: Path) -> None:
    trainer = trainer_for(llama("attached"), tmp_path)
    trainer.add_callback(AdaLoraCallback())
    with pytest.raises(RunError, match=r"^ADA810: two AdaLoraCallbacks"):
        trainer.train()
    model = llama("attached")
    optimizer = optimizer_of(model)
    allocate_on_step(optimizer, model)
    with pytest.raises(RunError, match=r"^ADA810: allocate_on_step"):
        trainer_for(model, tmp_path).train()
    del optimizer
    trainer_for(model, tmp_path, max_steps=STEPS).train()


def test_best_checkpoint_from_before_the_budget_is_named_with_both_numbers(tmp_path: Path) -> None:
    model = llama("attached")
    trainer = trainer_for(
        model,
        tmp_path,
        save_strategy="steps",
        eval_strategy="steps",
        save_steps=8,
        eval_steps=8,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # the first checkpoint is the worst
        label_names=["labels"],
    )
    caught = [str(each.message) for each in found(trainer.train)]
    (message,) = caught
    assert message.startswith("ADA812: the best checkpoint")
    assert "checkpoint-8, keeps " in message
    assert "target 12" in message


def test_run_under_trainer_that_stops_early_is_named_when_saved(tmp_path: Path) -> None:
    model = llama("attached")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "ADA824: Trainer makes 8")
        trainer_for(model, tmp_path, max_steps=8).train()
    report = model.run_report()
    assert report.is_budget_reached  # the callback finalizes
    assert "ADA824: Trainer makes 8 optimizer steps" in str(report)
    model.save_pretrained(tmp_path)


def test_right_run_under_trainer_is_quiet_and_logs_what_it_was(tmp_path: Path) -> None:
    settings = {"save_strategy": "steps", "save_steps": 8, "gradient_accumulation_steps": 2}
    trainer = trainer_for(llama("attached"), tmp_path, **settings)
    trainer.train()
    last = trainer.state.log_history[-1]
    assert (last["steps"], last["target_budget"], last["budget"]) == (STEPS, 12, 12)
    assert (last["nonfinite_steps"], last["run_findings"]) == (0, 0)
    trainer.save_model(str(tmp_path / "result"))
    resumed = trainer_for(llama("attached"), tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    resumed.save_model(str(tmp_path / "resumed"))


def test_checkpoint_without_its_state_is_named_when_trainer_resumes(tmp_path: Path) -> None:
    trainer_for(llama("attached"), tmp_path, save_strategy="steps", save_steps=8).train()
    for path in (tmp_path / "checkpoint-8").glob("adalora_state*"):
        path.unlink()
    resumed = trainer_for(llama("attached"), tmp_path)
    caught = codes(lambda: resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8")))
    assert caught == ["ADA809"]


# --- forwards in training mode that nothing learns from -------------------------------------------


def test_a_layer_behind_a_merged_one_may_write_in_place() -> None:
    base = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(inplace=True))
    model = make("attached", base, target_modules=["0"], init_lora_weights=False).eval()
    model.base_model.finalize()
    x = torch.randn(3, 8)
    expected = model(x).detach()
    model.merge_adapter()
    output = model.train()(x)
    torch.testing.assert_close(output.detach(), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(RunError, match="ADA816"):
        output.sum().backward()


def test_forwards_that_leave_a_merged_layer_out_leave_nothing_behind() -> None:
    model = make("attached", TwoLayer(), target_modules=["second"])
    model.base_model.finalize()
    model.merge_adapter()
    second = model.base_model.model.second
    model.base_model.model.use_second = False
    for step in range(5):
        model.train()(**two_layer_batch(step))
    assert len(second._forward_hooks) <= 1
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        each.unmerge_adapter()
        each.base_model.model.use_second = True
        each(**two_layer_batch(0)).loss.backward()
        assert not each.base_model.model.second._forward_hooks


def test_a_model_is_copied_while_a_penalty_waits_for_its_backward_pass(door: str) -> None:
    model = make(door, TwoLayer()).train()
    model.base_model.training_run.penalty.begin_step()
    loss = model(**two_layer_batch(0)).loss
    other = copy.deepcopy(model)
    for each, value in ((model, loss), (other, other(**two_layer_batch(0)).loss)):
        value.backward()
        assert each.base_model.training_run.penalty.was_in_a_loss
