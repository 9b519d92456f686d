"""Run one arm on a causal language model: pretrain, adapt, measure."""

from __future__ import annotations

import platform
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from adapters import adalora, lora, pattern, tfinal
from arms import ARMS, BROKEN
from causal_model import Base, batches, loss_of, measured_loss, pretrained
from patterns import costs_of, parameters_of
from runs import DIVERGED, Outcome, base_job, base_seed_of, found_ranks
from tasks import KINDS, SIZES, TASKS

from adalora_core.training.training_state.contents import allocator_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runs import Job, Outcomes
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
    return _outcome(job, loss, base, parameters=0, cpu_seconds=seconds, train_seconds=base.seconds)


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
    base_seed = base_seed_of(job.seed)
    base = pretrained(task.source, source.train, task.size, base_seed, cache)
    recorded = base_job(task, base_seed)
    if recorded in outcomes and outcomes[recorded].base != base.digest:
        raise ValueError(
            f"{recorded}: expected the digest {outcomes[recorded].base}, got {base.digest}; "
            "use the kind of machine and the torch that the recorded line names"
        )
    started = time.process_time()
    torch.manual_seed(job.seed)
    size = SIZES[task.size]
    costs = costs_of(base.model(size), KINDS)
    order = batches(target.train if job.arm != BROKEN else noise(target.train), BATCH, job.seed)
    known = found_ranks(job, block, outcomes)
    found = None if known is None else dict(zip(costs, known, strict=True))
    if arm.is_lora:
        ranks = pattern(job, costs, found)
        model = lora(base.model(size), job.scale, ranks)
    else:
        model = adalora(base.model(size), arm, job.steps, job.scale, costs)
    factors: Mapping[str, float] = {}
    if found and arm.rates == "by rank":
        mean = sum(found.values()) / len(found)
        factors = {path: rank / mean for path, rank in found.items()}
    slow_until = tfinal(job.steps) if arm.rates == "half" else 0
    train_seconds = train(model, order, job.steps, job.learning_rate, factors, slow_until)
    if not arm.is_lora:
        ranks = allocator_of(*model.base_model.trained_adapters()).active_ranks()
    part = target.development if job.stage == "tune" else target.test
    loss = measured_loss(model, part, job.seed)
    seconds = time.process_time() - started
    return _outcome(
        job, loss, base, parameters=parameters_of(ranks, costs), cpu_seconds=seconds,
        train_seconds=train_seconds, ranks=list(ranks.values()),
    )  # fmt: skip


def noise(part: Tensor) -> Tensor:
    """Return the bytes of a part in random order."""
    return part[torch.randperm(len(part), generator=torch.Generator().manual_seed(0))]


def train(
    model: nn.Module,
    order: Iterator[Tensor],
    steps: int,
    rate: float,
    factors: Mapping[str, float],
    slow_until: int,
) -> float:
    """Train the adapters, and return the processor seconds that it took.

    Args:
        model: with the adapters.
        order: the batches.
        steps: how many of them.
        rate: peak of the learning rate.
        factors: on the rate, by module path; 1 where none is given.
        slow_until: the step before which the rate is half as high.
    """
    groups = defaultdict(list)
    for name, each in model.named_parameters():
        if each.requires_grad:
            factor = next((factors[path] for path in factors if f".{path}." in name), 1.0)
            groups[factor].append(each)
    optimizer = torch.optim.AdamW(
        [{"params": of_factor, "factor": factor} for factor, of_factor in groups.items()],
        lr=rate,
        weight_decay=0.0,
        fused=True,
    )
    allocate = getattr(model, "update_and_allocate", None)
    model.train()
    started = time.process_time()
    for step in range(steps):
        now = rate * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * now * (0.5 if step < slow_until else 1.0)
        loss_of(model, next(order)).backward()
        optimizer.step()
        if allocate is not None:
            allocate(step)
        optimizer.zero_grad()
    return time.process_time() - started


def _outcome(job: Job, loss: float, base: Base, **measured: Any) -> Outcome:
    seconds = {name: round(measured.pop(name), 2) for name in ("cpu_seconds", "train_seconds")}
    loss = round(loss, 5) if loss < DIVERGED else DIVERGED  # NaN is not smaller
    return Outcome(job, loss, base=base.digest, machine=machine(), **seconds, **measured)


def machine() -> str:
    """Return the processor and the versions that a result depends on."""
    import peft
    import transformers

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.machine()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, PEFT {peft.__version__}"
    )
