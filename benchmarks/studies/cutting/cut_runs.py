"""Train a LoRA with one rank on a text or on the words of the demo, and cut it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from adapters import lora
from causal_model import batches, measured_loss, pretrained
from causal_runs import BATCH, train
from cut_plan import PARTS, SCALE, TEXT_STEPS, WHOLE, WORDS, Outcome
from cuts import measured_cuts, merged_loss
from patterns import costs_of
from runs import DIVERGED
from tasks import BASE_SEED_OF, KINDS, SIZES, TASKS
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from training import machine, matrices

from adalora_core.demo.data import lexicon_path, read_words, split_words
from adalora_core.demo.encoder import (
    WordBatches,
    features,
    load_encoder,
    logits,
    mean_pooled,
    verified_model_folder,
)
from adalora_core.demo.experiment import optimizer_and_rates
from adalora_core.demo.settings import DemoSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cut_plan import Job
    from texts import Text

    Measure = Callable[[nn.Module], float]

STEPS = {"short": 60}
DEMO = DemoSettings(train_words=2400, held_out_words=1000, epochs=1)


def run(job: Job, texts: Mapping[str, Text], cache: Path) -> Outcome:
    """Train and measure; the test of the whole adapter also cuts it."""
    started = time.process_time()
    if job.task == WORDS:
        model, measure, base = trained_on_words(job)
    else:
        model, measure, base = trained_on_text(job, texts, cache)
    loss, without, size, cuts = merged_loss(model, measure), 0.0, 0, []
    if job.stage == "test" and job.rank == WHOLE:
        size, cuts = measured_cuts(model, [*PARTS], measure)
        without = round(measure(model.unload()), 5)
    return Outcome(
        job=job,
        loss=min(DIVERGED, loss),  # NaN is not smaller
        cpu_seconds=round(time.process_time() - started, 2),
        base=base,
        machine=machine(),
        bytes=size,
        without=without,
        cuts=cuts,
    )


def trained_on_text(
    job: Job, texts: Mapping[str, Text], cache: Path
) -> tuple[nn.Module, Measure, str]:
    """Return a model trained as in the second study, what measures it, and its base's digest."""
    task = TASKS[job.task]
    source, target = texts[task.source], texts[task.target]
    base = pretrained(task.source, source.train, task.size, BASE_SEED_OF[job.seed], cache)
    torch.manual_seed(job.seed)
    size = SIZES[task.size]
    costs = costs_of(base.model(size), KINDS)
    model = lora(base.model(size), dict.fromkeys(costs, job.rank), SCALE)
    order = batches(target.train, BATCH, job.seed)
    train(model, order, STEPS.get(job.task, TEXT_STEPS), job.learning_rate)
    part = target.development if job.stage == "tune" else target.test
    return model, lambda each: measured_loss(each, part, job.seed), base.digest


def trained_on_words(job: Job) -> tuple[nn.Module, Measure, str]:
    """Return the trained encoder of the demo, what measures it with its head, and its name."""
    settings = DemoSettings(
        train_words=DEMO.train_words, held_out_words=DEMO.held_out_words, epochs=1,
        learning_rate=job.learning_rate, split_seed=job.seed, seed=job.seed,
    )  # fmt: skip
    folder = verified_model_folder()
    words, held_out = (
        WordBatches(folder, each)
        for each in split_words(
            read_words(lexicon_path()),
            train=settings.train_words,
            held_out=settings.held_out_words,
            seed=settings.split_seed,
        )
    )
    torch.manual_seed(job.seed)
    encoder = load_encoder(folder)
    model = lora(encoder, dict.fromkeys(matrices(encoder), job.rank), SCALE)
    head = nn.Linear(encoder.config.hidden_size, 1)
    optimizer, rates = optimizer_and_rates(model, head, settings)
    order = torch.Generator().manual_seed(job.seed)
    model.train()
    for indices in torch.randperm(len(words), generator=order).split(settings.batch_size):
        inputs, labels = words.batch(indices)
        predicted = logits(head, mean_pooled(model, inputs))
        binary_cross_entropy_with_logits(predicted, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        rates.step()
    model.eval()

    @torch.no_grad()
    def measure(each: nn.Module) -> float:
        predicted = logits(head, features(each, held_out))
        return binary_cross_entropy_with_logits(predicted, held_out.labels).item()

    return model, measure, "MiniLM"
