"""`add_orthogonality_gradient_` takes the place of the penalty in the loss."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from adalora_runs import OURS, end_step, make, optimizer_of
from run_loops import STEPS, codes
from torch import nn
from toy_models import TwoLayer, two_layer_batch

from adalora_core.trainers.trainer_checkpoints import complete_loss

MICRO_BATCHES = 3
CLIP = 0.5
DOORS = pytest.mark.parametrize("door", [*OURS, "injected"])


def batches(step: int) -> list[dict[str, torch.Tensor]]:
    return [two_layer_batch(MICRO_BATCHES * step + part) for part in range(MICRO_BATCHES)]


def plain(model: Any, step: int, *, adds: bool) -> None:
    loss = model(**two_layer_batch(step)).loss
    loss.backward()
    if adds:
        model.add_orthogonality_gradient_()


def accumulated(model: Any, step: int, *, adds: bool) -> None:
    for batch in batches(step):
        (model(**batch).loss / MICRO_BATCHES).backward()
    if adds:
        model.add_orthogonality_gradient_()


def clipped(model: Any, step: int, *, adds: bool) -> None:
    plain(model, step, adds=adds)
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)


def scaled(model: Any, step: int, *, adds: bool) -> None:
    """Scale the loss, and the gradients back."""
    scale = 1024.0
    (model(**two_layer_batch(step)).loss * scale).backward()
    if adds:
        model.add_orthogonality_gradient_(scale)
    for each in model.parameters():
        if each.grad is not None:
            each.grad /= scale


def trained(door: str, backward: Any, *, adds: bool) -> list[torch.Tensor]:
    """Return what a run has trained, in float64."""
    torch.manual_seed(7)
    model = make(door, TwoLayer()).double().train()
    if adds:
        model.leave_penalty_out_of_loss()
    optimizer = optimizer_of(model)

    def run() -> None:
        for step in range(STEPS):
            backward(model, step, adds=adds)
            end_step(model, optimizer, step)

    torch.set_default_dtype(torch.float64)
    try:
        assert codes(run) == []
    finally:
        torch.set_default_dtype(torch.float32)
    return [each.detach() for each in model.parameters() if each.requires_grad]


@pytest.mark.usefixtures("op_backend")
@pytest.mark.parametrize("backward", [plain, accumulated, clipped, scaled])
@DOORS
def test_run_is_that_of_the_penalty_in_the_loss(door: str, backward: Any) -> None:
    expected = trained(door, backward, adds=False)
    for one, other in zip(trained(door, backward, adds=True), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@DOORS
def test_the_penalty_is_returned_without_a_graph_and_changes_gradients_alone(door: str) -> None:
    model = make(door, TwoLayer()).train()
    before = [each.detach().clone() for each in model.parameters()]
    expected = model.orthogonality_penalty()
    found = model.add_orthogonality_gradient_()
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach())
    assert all(map(torch.equal, before, model.parameters()))
    learning = [each for each in model.parameters() if each.requires_grad]
    penalised = torch.autograd.grad(expected, learning, allow_unused=True)
    for each, gradient in zip(learning, penalised, strict=True):
        assert (each.grad is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(each.grad, gradient)


@DOORS
def test_a_penalty_that_is_in_the_loss_already_is_not_added_again(door: str) -> None:
    model = make(door, TwoLayer()).train()
    plain(model, 0, adds=False)
    before = [each.grad.clone() for each in model.parameters() if each.grad is not None]
    with pytest.raises(ValueError, match="add_orthogonality_gradient_: the penalty must be in no"):
        model.add_orthogonality_gradient_()
    after = [each.grad for each in model.parameters() if each.grad is not None]
    assert all(map(torch.equal, before, after))
    model.leave_penalty_out_of_loss()
    plain(model, 1, adds=True)
    (model(**two_layer_batch(2)).loss + model.orthogonality_penalty()).backward()
    with pytest.raises(ValueError, match="call leave_penalty_out_of_loss"):
        model.add_orthogonality_gradient_()


def test_a_weight_of_zero_adds_nothing() -> None:
    model = make("adalora_core", TwoLayer(), orth_reg_weight=0.0)
    assert model.add_orthogonality_gradient_() == 0
    assert all(each.grad is None for each in model.parameters())


def test_the_loss_that_trainer_completes_leaves_the_penalty_out() -> None:
    model = make("adalora_core", TwoLayer()).train()

    def compute_loss(model: Any, inputs: Any, **_: Any) -> torch.Tensor:
        loss: torch.Tensor = nn.functional.cross_entropy(
            model(inputs["x"]).logits, inputs["labels"]
        )
        return loss

    trainer: Any = SimpleNamespace(compute_loss=compute_loss, loss_is_scaled_for_ga=True)
    complete_loss(trainer)
    batch = two_layer_batch(0)
    task = compute_loss(model, batch)
    completed = trainer.compute_loss(model, batch)
    torch.testing.assert_close(completed, task + model.orthogonality_penalty())
    model.leave_penalty_out_of_loss()
    torch.testing.assert_close(trainer.compute_loss(model, batch), task)
