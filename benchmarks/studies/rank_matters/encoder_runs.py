"""Run one arm on sentences that people rated, in the setting of the first study."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jobs
import torch
from adapters import adalora, lora, pattern
from arms import ARMS
from patterns import parameters_of
from runs import Outcome, needed
from sentences import read, sdist, split
from tasks import TASKS
from torch import nn
from training import Tokenised, machine, matrices, predict, spearman, train_model

from adalora_core.demo.experiment import load_encoder, verified_model_folder
from adalora_core.training.training_state.contents import allocator_of

if TYPE_CHECKING:
    from outcomes import Outcomes
    from runs import Job
    from tasks import Block

FIRST_STUDY = jobs.Setting()


def run(job: Job, block: Block, outcomes: Outcomes) -> Outcome:
    """Train adapters and a head on the ratings, and measure them on held-out sentences."""
    started = time.process_time()
    data, arm = TASKS[job.task].source, ARMS[job.arm]
    parts = split(read(data, sdist()), job.seed)
    held_out = parts.development if job.stage == "tune" else parts.test
    folder = verified_model_folder()
    torch.manual_seed(job.seed)
    encoder = load_encoder(folder)
    costs = matrices(encoder)
    head = nn.Linear(encoder.config.hidden_size, 1)
    before = needed(job, block, outcomes)
    found = None if before is None else dict(zip(costs, before.ranks, strict=True))
    if arm.is_lora:
        ranks = pattern(job, costs, found)
        model = lora(encoder, ranks, job.scale)
    else:
        model = adalora(encoder, arm, job.steps, job.scale, job.seed, costs)
    train = Tokenised(folder, parts.train, FIRST_STUDY.tokens)
    as_before = jobs.Job(
        FIRST_STUDY.name, data, job.stage, "lora" if arm.is_lora else "sensitivity",
        job.learning_rate, job.scale, job.seed,
    )  # fmt: skip
    trained_from = time.process_time()
    train_model(model, head, train, as_before, FIRST_STUDY)
    train_seconds = time.process_time() - trained_from
    if not arm.is_lora:
        ranks = allocator_of(*model.base_model.trained_adapters()).active_ranks()
    held = Tokenised(folder, held_out, FIRST_STUDY.tokens)
    return Outcome(
        job=job,
        loss=round(1 - spearman(predict(model, head, held), held.ratings), 5),
        parameters=parameters_of(ranks, costs),
        cpu_seconds=round(time.process_time() - started, 2),
        train_seconds=round(train_seconds, 2),
        base="MiniLM",
        machine=machine(),
        ranks=list(ranks.values()),
    )
