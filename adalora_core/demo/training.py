"""Train a linear probe on the frozen encoder, and adapters together with a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from adalora_core.demo.encoder import accuracy, features, logits, mean_pooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from adalora_core.allocation import RankAllocator
    from adalora_core.demo.encoder import WordBatches
    from adalora_core.demo.settings import DemoSettings
    from adalora_core.floor.budget import Phase
    from adalora_core.training import AdaLoraModel


@dataclass(frozen=True, slots=True)
class StepReport:
    """The figures of the progress bar after one optimizer step."""

    loss: float
    phase: Phase
    budget: int
    mean_rank: float


def probe_accuracy(encoder: nn.Module, train: WordBatches, held_out: WordBatches) -> float:
    """Return the held-out accuracy of a linear classifier on the features of the frozen encoder.

    The classifier is trained to convergence (logistic regression with a small L2 penalty), so that
    the adapters are compared with the best result of the frozen features.
    """
    inputs = features(encoder, train)
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0)
    head = nn.Linear(inputs.shape[1], 1)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    standardised = (inputs - mean) / deviation

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(logits(head, standardised), train.labels)
        loss = loss + 1e-3 * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.inference_mode():
        scores = logits(head, (features(encoder, held_out) - mean) / deviation)
    return accuracy(scores, held_out.labels)


def train_adapter(
    model: AdaLoraModel,
    head: nn.Module,
    words: WordBatches,
    settings: DemoSettings,
    on_step: Callable[[StepReport], None],
) -> None:
    """Train adapters and head together; the budget is enforced after every step.

    Args:
        model: an AdaLoRA model around the encoder.
        head: maps pooled features `[n, hidden]` to one logit `[n, 1]`.
        words: the training words.
        settings: batch size, epochs, learning rate and seed.
        on_step: called after each optimizer step.
    """
    optimizer, rates = optimizer_and_rates(model, head, settings)
    order = torch.Generator().manual_seed(settings.seed)
    allocator = allocator_of(model)
    model.train()
    step = 0
    for _ in range(settings.epochs):
        for indices in torch.randperm(len(words), generator=order).split(settings.batch_size):
            inputs, labels = words.batch(indices)
            task_loss = binary_cross_entropy_with_logits(
                logits(head, mean_pooled(model, inputs)), labels
            )
            (task_loss + model.orthogonality_penalty()).backward()
            optimizer.step()
            # After the optimizer, which would revive triplets that were just pruned; before
            # zero_grad, since importance is |parameter * gradient|.
            model.update_and_allocate(step)
            optimizer.zero_grad()
            rates.step()
            on_step(step_report(allocator, step, task_loss.item()))
            step += 1
    model.eval()


def optimizer_and_rates(
    model: nn.Module, head: nn.Module, settings: DemoSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Return AdamW over the trained parameters, and the schedule of the learning rate."""
    parameters = [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=0.0, fused=True
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.learning_rate_factor)
    return optimizer, rates


def allocator_of(model: AdaLoraModel) -> RankAllocator:
    """Return the allocator of the model's only adapter."""
    (adapter,) = model.base_model.trained_adapters()
    if adapter.allocator is None:
        raise RuntimeError("the adapter is frozen; the demo trains the one it has just made")
    return adapter.allocator


def step_report(allocator: RankAllocator, step: int, loss: float) -> StepReport:
    """Return the figures after the 0-based optimizer step `step`."""
    return StepReport(
        loss=loss,
        phase=allocator.phase,
        budget=allocator.schedule.at(step).budget,
        mean_rank=allocator.budget / len(allocator.matrices),
    )
