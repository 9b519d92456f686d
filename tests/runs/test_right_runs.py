"""Right runs, in which nothing is found: every warning is an error here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import LOADERS, end_step, make, optimizer_of
from run_loops import STEPS, backward, codes, counts_from_1, right, run_of, train_rightly
from torch import nn
from toy_models import TwoLayer, two_layer_batch


def scaled(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Overflow at the first steps and at one in between; the scaler skips them."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    overflows = step < 5 or step == 17
    scaler.scale(
        model(**two_layer_batch(step)).loss * (float("inf") if overflows else 1)
    ).backward()
    scaler.step(optimizer)
    scaler.update()
    model.base_model.update_and_allocate(step)
    optimizer.zero_grad()


def scaled_without_a_call(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Leave the call out where the step is skipped."""
    if step < 5 or step in {17, 18}:
        backward(model, step, float("inf"))
        optimizer.zero_grad()
        return
    right(model, optimizer, step)


def accumulated(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    for micro in range(64):
        (model(**two_layer_batch(64 * step + micro)).loss / 64).backward()
    optimizer.step()
    model.base_model.update_and_allocate(step)
    optimizer.zero_grad(set_to_none=False)


def clipped_and_evaluated(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    backward(model, step)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    end_step(model, optimizer, step)
    with torch.no_grad():
        model.eval()(**two_layer_batch(step))
    model.train()


def with_a_loss_of_ones_own(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    model(two_layer_batch(step)["x"]).logits.square().mean().backward()
    end_step(model, optimizer, step)


def with_the_penalty_apart(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    model(two_layer_batch(step)["x"]).logits.square().mean().backward()
    model.orthogonality_penalty().backward()
    end_step(model, optimizer, step)


def with_another_loss_than_that_of_the_outputs(
    model: Any, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Take the loss of the outputs at every other step, and one's own with the penalty between."""
    penalty = model.orthogonality_penalty()
    outputs = model(**two_layer_batch(step))
    loss = outputs.logits.square().mean() + penalty if step % 2 else outputs.loss
    loss.backward()
    end_step(model, optimizer, step)


RIGHT_LOOPS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (right, {}),
    "allocates at every step": (right, {"deltaT": 1, "tinit": 0}),
    "scaled": (scaled, {}),
    "scaled without a call": (scaled_without_a_call, {}),
    "accumulated": (accumulated, {}),
    "clipped and evaluated": (clipped_and_evaluated, {}),
    "weight 0 with a loss of one's own": (with_a_loss_of_ones_own, {"orth_reg_weight": 0.0}),
    "penalty apart": (with_the_penalty_apart, {}),
    "two losses in turn": (with_another_loss_than_that_of_the_outputs, {}),
    "nothing to prune": (right, {"target_r": 12}),
}


@pytest.mark.parametrize("loop", RIGHT_LOOPS)
def test_right_run_is_quiet(library: str, loop: str, tmp_path: Path) -> None:
    steps, changes = RIGHT_LOOPS[loop]
    model, caught = run_of(library, steps, **changes)
    assert caught == []
    assert codes(lambda: model.save_pretrained(tmp_path)) == []
    assert codes(model.merge_and_unload) == []


@pytest.mark.parametrize("kind", [{"fused": True}, {"foreach": True}, {"lr": 0.0}])
def test_right_run_of_another_optimizer_is_quiet(library: str, kind: dict[str, Any]) -> None:
    model = make(library, TwoLayer()).train()
    optimizer = torch.optim.AdamW(model.parameters(), **kind)
    for step in range(STEPS):
        right(model, optimizer, step)
        if kind == {"lr": 0.0}:
            optimizer.param_groups[0]["lr"] = 1e-2


def test_fused_optimizer_under_a_gradient_scaler_is_quiet(library: str) -> None:
    model = make(library, TwoLayer()).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    for step in range(STEPS):
        loss = model(**two_layer_batch(step)).loss
        scaler.scale(loss * 1e38 if step < 6 else loss).backward()
        scaler.step(optimizer)
        scaler.update()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    assert model.run_report().nonfinite_steps > 0


def test_steps_of_which_only_a_device_knows_whether_they_were_skipped_are_quiet(
    library: str,
) -> None:
    class OnDevice(torch.optim.Optimizer):
        found_inf = torch.ones((), device="meta")

        def step(self, closure: Any = None) -> None:  # noqa: ARG002 - torch's signature
            if not any(each.grad.isinf().any() for each in trained if each.grad is not None):
                inner.step()

    model = make(library, TwoLayer()).train()
    trained = [each for each in model.parameters() if each.requires_grad]
    inner = torch.optim.Adam(trained, lr=1e-2)
    optimizer = OnDevice(trained, {})
    for step in range(STEPS):
        backward(model, step, float("inf") if step < 20 else 1.0)
        end_step(model, optimizer, step)


def test_several_optimizers_are_quiet(library: str) -> None:
    """One of the head and a scheduler, two of the factors, and one of another model."""
    model = make(library, TwoLayer(), modules_to_save=["head"]).train()
    named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    of_head, of_b, of_rest = (
        torch.optim.SGD([each for name, each in named if chosen(name)], lr=1e-2)
        for chosen in (
            lambda name: "lora" not in name,
            lambda name: "lora_B" in name,
            lambda name: "lora_A" in name or "lora_E" in name,
        )
    )
    critic = nn.Linear(4, 1)
    of_critic = torch.optim.AdamW(critic.parameters())
    scheduler = torch.optim.lr_scheduler.LinearLR(of_rest, start_factor=0.1)
    for step in range(STEPS):
        for _ in range(5):
            critic(torch.ones(4)).backward()
            of_critic.step()
            of_critic.zero_grad()
        backward(model, step)
        for optimizer in (of_head, of_b, of_rest):
            optimizer.step()
        scheduler.step()
        model.base_model.update_and_allocate(step)
        model.zero_grad()


def test_short_right_run_and_adapters_without_a_run_are_quiet(library: str, tmp_path: Path) -> None:
    make(library, TwoLayer()).save_pretrained(tmp_path / "new")
    LOADERS[library].from_pretrained(TwoLayer(), tmp_path / "new", is_trainable=True)
    short, caught = run_of(library, right, 4, total_step=4, tinit=0, tfinal=1)
    assert caught == []
    short.save_pretrained(tmp_path / "short")
    loaded = LOADERS[library].from_pretrained(TwoLayer(), tmp_path / "short", is_trainable=True)
    loaded.save_pretrained(tmp_path / "again")


def test_steps_counted_from_1_are_quiet(library: str) -> None:
    """PEFT's method_comparison/MetaMathQA/run.py counts so."""
    model, caught = run_of(library, counts_from_1)
    assert caught == []
    assert model.run_report().is_budget_reached


def test_marked_checkpoint_and_resumed_run_are_quiet(library: str, tmp_path: Path) -> None:
    model, _ = run_of(library, right, 12)
    model.save_pretrained(tmp_path, save_training_state=True)
    resumed = LOADERS[library].from_pretrained(TwoLayer(), tmp_path, is_trainable=True).train()
    optimizer = optimizer_of(resumed)
    train_rightly(resumed, optimizer, range(12, STEPS))
    resumed.save_pretrained(tmp_path)


def test_compiled_optimizer_breaks_no_graph_of_ours_and_compiles_once() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = make("adalora_core", TwoLayer()).train()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-2)
    compiled = torch.compile(optimizer.step, backend="eager")
    for step in range(STEPS):
        backward(model, step)
        with torch._dynamo.config.patch(error_on_recompile=step > 2):
            compiled()
        model.update_and_allocate(step)
        optimizer.zero_grad()
    # torch inserts one itself.
    breaks = torch._dynamo.utils.counters["graph_break"]
    assert all("torch._dynamo.graph_break()" in reason for reason in breaks)
