"""Run one arm on a causal language model: pretrain, adapt, measure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from adapters import adalora, lora, pattern
from arms import ARMS, BROKEN
from causal_model import Base, batches, loss_of, measured_loss, pretrained
from patterns import costs_of, cut_to_parameters, parameters_of
from runs import DIVERGED, Outcome, best_try, needed
from tasks import BASE_SEED_OF, KINDS, SIZES, TASKS
from training import machine

from adalora_core.training.training_state.contents import allocator_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from outcomes import Outcomes
    from patterns import Pattern
    from runs import Job
    from tasks import Block
    from texts import Text
    from torch import Tensor, nn

BATCH, WARMUP = 16, 20


def run_base(job: Job, texts: Mapping[str, Text], cache: Path) -> Outcome:
    """Pretrain the model of a seed, and measure it on its own text."""
    started = time.process_time()
    text = texts[job.task]
    base = pretrained(job.task, text.train, job.arm, job.seed, cache)
    loss = measured_loss(base.model(SIZES[job.arm]), text.test, job.seed)
    seconds = time.process_time() - started
    return _outcome(job, loss, 0, seconds, base.seconds, base)


def run(
    job: Job, block: Block, outcomes: Outcomes, texts: Mapping[str, Text], cache: Path
) -> Outcome:
    """Adapt a pretrained model, and measure it on text that it has not seen.

    Args:
        job: the run.
        block: the block that it belongs to.
        outcomes: those of the runs before.
        texts: source and target of the task.
        cache: the folder of the pretrained models.
    """
    task, arm = TASKS[job.task], ARMS[job.arm]
    source, target = texts[task.source], texts[task.target]
    base = pretrained(task.source, source.train, task.size, BASE_SEED_OF[job.seed], cache)
    started = time.process_time()
    torch.manual_seed(job.seed)
    size = SIZES[task.size]
    costs = costs_of(base.model(size), KINDS)
    order = batches(target.train if job.arm != BROKEN else noise(target.train), BATCH, job.seed)
    before = needed(job, block, outcomes)
    found = None if before is None else dict(zip(costs, before.ranks, strict=True))
    train_seconds, steps = 0.0, job.steps
    if arm.pilot:
        rate, scale = best_try(block, "wide", outcomes)
        pilot = adalora(base.model(size), arm, arm.pilot, scale, job.seed, costs)
        train_seconds = train(pilot, order, arm.pilot, rate)
        found, steps = (
            allocator_of(*pilot.base_model.trained_adapters()).active_ranks(),
            steps - arm.pilot,
        )
    if arm.is_lora:
        ranks = pattern(job, costs, found)
        model = lora(base.model(size), ranks, job.scale)
    else:
        model = adalora(base.model(size), arm, steps, job.scale, job.seed, costs)
    train_seconds += train(model, order, steps, job.learning_rate)
    if not arm.is_lora:
        ranks = allocator_of(*model.base_model.trained_adapters()).active_ranks()
    elif arm.ranks == "cut":
        ranks = cut_to_parameters(model, costs, before.parameters if before else 0)
    part = target.development if job.stage == "tune" else target.test
    loss = measured_loss(model, part, job.seed)
    seconds = time.process_time() - started
    return _outcome(job, loss, parameters_of(ranks, costs), seconds, train_seconds, base, ranks)


def noise(part: Tensor) -> Tensor:
    """Return the bytes of a part in random order."""
    return part[torch.randperm(len(part), generator=torch.Generator().manual_seed(0))]


def train(model: nn.Module, order: Iterator[Tensor], steps: int, rate: float) -> float:
    """Train the adapters, and return the processor seconds that it took."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0, fused=True)
    allocate = getattr(model, "update_and_allocate", None)
    penalised = allocate is not None and model.peft_config["default"].orth_reg_weight > 0
    model.train()
    started = time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
        loss = loss_of(model, next(order))
        if penalised:
            loss = loss + model.orthogonality_penalty()
        loss.backward()
        optimizer.step()
        if allocate is not None:
            allocate(step)
        optimizer.zero_grad()
    return time.process_time() - started


def _outcome(
    job: Job,
    loss: float,
    parameters: int,
    seconds: float,
    train_seconds: float,
    base: Base,
    ranks: Pattern | None = None,
) -> Outcome:
    return Outcome(
        job=job,
        loss=round(loss, 5) if loss < DIVERGED else DIVERGED,  # NaN is not smaller
        parameters=parameters,
        cpu_seconds=round(seconds, 2),
        train_seconds=round(train_seconds, 2),
        base=base.digest,
        machine=machine(),
        ranks=list(ranks.values()) if ranks else [],
    )
