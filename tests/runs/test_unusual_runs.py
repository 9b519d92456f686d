"""Unusual runs that are right: nothing is found, and every warning is an error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import LOADERS, TARGET_BUDGET, end_step, factors, final_ranks, make, optimizer_of
from run_loops import backward, codes, right, train_rightly
from torch import nn
from torch.func import functional_call
from toy_models import TwoLayer, two_layer_batch

from adalora_core import allocate_on_step

STEPS = 60
SCHEDULE = {"total_step": STEPS, "tinit": 4, "tfinal": 20}


class Sam(torch.optim.Optimizer):
    """Steps with the gradient at the worst point nearby."""

    def __init__(self, parameters: list[Any]) -> None:
        super().__init__(parameters, {})
        self.inner = torch.optim.AdamW(self.param_groups, lr=1e-2)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        held = [each for each in self.param_groups[0]["params"] if each.grad is not None]
        before = [each.clone() for each in held]
        for each in held:
            each.add_(each.grad, alpha=0.05)
        with torch.enable_grad():
            self.zero_grad()
            closure()
        for each, old in zip(held, before, strict=True):
            each.copy_(old)
        self.inner.step()


class Lookahead(torch.optim.Optimizer):
    """Goes back half of the way after every five steps."""

    def __init__(self, parameters: list[Any]) -> None:
        super().__init__(parameters, {})
        self.inner = torch.optim.SGD(self.param_groups, lr=1e-1)
        self.slow = [each.detach().clone() for each in parameters]
        self.count = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inner.step(closure)
        self.count += 1
        if self.count % 5 == 0:
            for slow, fast in zip(self.slow, self.param_groups[0]["params"], strict=True):
                fast.copy_(slow.lerp_(fast, 0.5))


def lbfgs(model: Any) -> None:
    """On one batch, whose loss the line search never raises: another batch may make it diverge."""
    optimizer = torch.optim.LBFGS(factors(model), max_iter=2, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = model(**two_layer_batch(0)).loss
        loss.backward()
        return loss

    for step in range(STEPS):
        optimizer.step(closure)
        model.base_model.update_and_allocate(step)


def sam(model: Any) -> None:
    optimizer = Sam(factors(model))
    for step in range(STEPS):
        backward(model, step)
        optimizer.step(lambda step=step: backward(model, step))
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()


def lookahead(model: Any) -> None:
    optimizer = Lookahead(factors(model))
    train_rightly(model, optimizer, range(STEPS))


def gan(model: Any) -> None:
    """Five steps of a critic for one of the generator, which is frozen meanwhile."""
    critic = nn.Linear(3, 1)
    of_critic, of_model = torch.optim.Adam(critic.parameters()), optimizer_of(model)
    for step in range(STEPS):
        for each in factors(model):
            each.requires_grad_(False)
        for _ in range(5):
            critic(model(two_layer_batch(step)["x"]).logits).mean().backward()
            of_critic.step()
            of_critic.zero_grad()
        for each in factors(model):
            each.requires_grad_(True)
        loss = critic(model(two_layer_batch(step)["x"]).logits).mean()
        (loss + model.base_model.orthogonality_penalty()).backward()
        end_step(model, of_model, step)


def gradient_penalty(model: Any) -> None:
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        batch = two_layer_batch(step)
        loss = model(batch["x"].requires_grad_(), batch["labels"]).loss
        (slope,) = torch.autograd.grad(loss, batch["x"], create_graph=True)
        (loss + slope.square().sum()).backward()
        end_step(model, optimizer, step)


def maml(model: Any) -> None:
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        values = {name: each for name, each in model.named_parameters() if ".lora_" in name}
        inner = functional_call(model, values, kwargs=two_layer_batch(step)).loss
        slopes = torch.autograd.grad(inner, [*values.values()], create_graph=True)
        moved = {
            name: each - 0.1 * slope
            for (name, each), slope in zip(values.items(), slopes, strict=True)
        }
        functional_call(model, moved, kwargs=two_layer_batch(step + 1)).loss.backward()
        end_step(model, optimizer, step)


def shared_factors(model: Any) -> None:
    """Two optimizers hold E, and each makes a step."""
    first = torch.optim.SGD(factors(model), lr=1e-2)
    second = torch.optim.AdamW(factors(model, "E"), lr=1e-3)
    for step in range(STEPS):
        backward(model, step)
        first.step()
        end_step(model, second, step)
        model.zero_grad()


def alternating(model: Any) -> None:
    """Train E, then A and B, by optimizers of their own."""
    of_e, of_ab = (torch.optim.AdamW(factors(model, kinds), lr=1e-2) for kinds in ("E", "AB"))
    for step in range(STEPS):
        backward(model, step)
        (of_ab if step % 2 else of_e).step()
        model.base_model.update_and_allocate(step)
        model.zero_grad()


def alternately_frozen(model: Any) -> None:
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        for each in factors(model, "E"):
            each.requires_grad_(step // 5 % 2 == 0)
        for each in factors(model, "AB"):
            each.requires_grad_(step // 5 % 2 == 1)
        right(model, optimizer, step)


def head_first(model: Any) -> None:
    for each in factors(model):
        each.requires_grad_(False)
    of_head = optimizer_of(model)
    for step in range(36):
        backward(model, step)
        of_head.step()
        of_head.zero_grad()
    for each in factors(model):
        each.requires_grad_(True)
    optimizer = optimizer_of(model)
    train_rightly(model, optimizer, range(STEPS))


def head_first_under_the_hook(model: Any) -> None:
    optimizer = optimizer_of(model)
    allocate_on_step(optimizer, model)
    for step in range(STEPS):
        for each in factors(model):
            each.requires_grad_(step >= STEPS // 5)
        backward(model, step)
        optimizer.step()
        optimizer.zero_grad()
    model.base_model.finalize()


def several_epochs_on_one_batch(model: Any) -> None:
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        backward(model, step // 4)
        end_step(model, optimizer, step)


def warm_up_from_0(model: Any) -> None:
    optimizer = optimizer_of(model)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / 12 if step < 12 else (STEPS - step) / (STEPS - 12)
    )
    for step in range(STEPS):
        right(model, optimizer, step)
        rates.step()


def layer_frozen(model: Any) -> None:
    for name, each in model.named_parameters():
        if "first" in name:
            each.requires_grad_(False)
    optimizer = optimizer_of(model)
    train_rightly(model, optimizer, range(STEPS))


def average_swapped_in(model: Any) -> None:
    optimizer = optimizer_of(model)
    average = copy.deepcopy(model.state_dict())
    for step in range(STEPS):
        right(model, optimizer, step)
        own = copy.deepcopy(model.state_dict())
        for name, each in average.items():
            each.lerp_(own[name], 0.5)
        model.load_state_dict(average)
        with torch.no_grad():
            model.eval()(**two_layer_batch(step))
        model.train().load_state_dict(own)


def merged_for_evaluation(model: Any) -> None:
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        right(model, optimizer, step)
        if step % 10 == 9:
            merge = getattr(model.base_model, "merge_adapter", None)
            if merge is None:  # models of this package merge at the end alone
                continue
            merge()
            with torch.no_grad():
                model.eval()(**two_layer_batch(step))
            model.train().unmerge_adapter()


def disabled_for_a_reference(model: Any) -> None:
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        with torch.no_grad(), model.disable_adapter():
            model(**two_layer_batch(step))
        right(model, optimizer, step)


def in_bfloat16(model: Any) -> None:
    model.to(torch.bfloat16)
    optimizer = optimizer_of(model, lr=1e-3)
    for step in range(STEPS):
        batch = two_layer_batch(step)
        model(batch["x"].bfloat16(), batch["labels"]).loss.backward()
        end_step(model, optimizer, step)


def rate_falls_to_0(model: Any) -> None:
    optimizer = optimizer_of(model)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        right(model, optimizer, step)
        rates.step()


HEAD = {"modules_to_save": ["head"]}
RUNS: dict[str, tuple[Callable[[Any], None], dict[str, Any]]] = {
    "LBFGS": (lbfgs, {}),
    "SAM": (sam, {}),
    "Lookahead": (lookahead, {}),
    "GAN": (gan, {}),
    "gradient penalty": (gradient_penalty, {}),
    "MAML": (maml, {}),
    "shared factors": (shared_factors, {}),
    "alternating": (alternating, {}),
    "alternately frozen": (alternately_frozen, {}),
    "head first": (head_first, HEAD),
    "head first under the hook": (head_first_under_the_hook, HEAD),
    "several epochs": (several_epochs_on_one_batch, {}),
    "warm-up": (warm_up_from_0, {}),
    "frozen layer": (layer_frozen, {}),
    "average": (average_swapped_in, {}),
    "merged for evaluation": (merged_for_evaluation, HEAD),
    "reference": (disabled_for_a_reference, {}),
    "bfloat16": (in_bfloat16, {}),
    "rate to 0": (rate_falls_to_0, {}),
}


@pytest.mark.parametrize("run", RUNS)
def test_unusual_run_is_quiet_and_so_is_its_save(run: str, door: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    train, changes = RUNS[run]
    model = make(door, TwoLayer(), **SCHEDULE | changes).train()
    assert codes(lambda: train(model)) == []
    assert str(model.run_report()).endswith("no findings")
    assert sum(final_ranks(model)) == TARGET_BUDGET
    assert codes(lambda: model.save_pretrained(tmp_path)) == []
    for each in factors(model):
        each.requires_grad_(False)
    assert codes(lambda: model.save_pretrained(tmp_path)) == []
    assert codes(model.merge_and_unload) == []


def test_head_outside_of_a_loaded_adapter_in_training_mode_is_trained(
    door: str, tmp_path: Path
) -> None:
    make(door, TwoLayer()).save_pretrained(tmp_path)
    model = LOADERS[door].from_pretrained(TwoLayer(), tmp_path).train()
    head = nn.Linear(3, 1)
    head(model(**two_layer_batch(0)).logits).sum().backward()
    assert head.weight.grad is not None
