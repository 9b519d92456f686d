"""What the processes do in tests of run findings in distributed training."""

from __future__ import annotations

import copy
import os
import warnings
from typing import TYPE_CHECKING, Any

import torch
from distributed_runs import STEPS, adapted, batch, optimizer_of, train, wrap
from run_loops import codes
from torch import distributed

from adalora_core.floor.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path


def findings_of_a_right_run(rank: int, kind: str, folder: Path) -> list[str]:
    """Train, save a checkpoint in between and the result at the end."""
    model = adapted()
    wrapped = wrap(model, kind)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, fused=kind == "ddp")

    def run() -> None:
        train(wrapped, model, range(10), optimizer=optimizer)
        model.save_pretrained(folder, is_main_process=rank == 0, save_training_state=True)
        train(wrapped, model, range(10, STEPS), optimizer=optimizer)
        model.save_pretrained(folder, is_main_process=rank == 0)

    return codes(run)


def findings_of_ignored_fsdp(_rank: int, kind: str) -> list[str]:
    """Train a model for which accelerate was asked to apply FSDP."""
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    model = adapted()
    wrapped = wrap(model, kind)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        train(wrapped, model, range(4))
    return [str(each.message).partition(":")[0] for each in found]


def findings_of_a_forgotten_call(rank: int, kind: str, folder: Path) -> list[str]:
    """Train without an allocation, and save in the middle of another run."""
    model = adapted()
    wrapped = wrap(model, kind)
    optimizer = optimizer_of(model)
    world = distributed.get_world_size()

    def run() -> None:
        for step in range(10):
            wrapped.train()(**batch(step, rank, world, torch.float64)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        other = adapted()
        train(wrap(other, kind), other, range(6))
        other.save_pretrained(folder, is_main_process=rank == 0)

    return codes(run)


def findings_of_a_foreign_optimizer(rank: int, kind: str) -> list[str]:
    """Train with the optimizer of a model that was copied before it was wrapped."""
    model = adapted()
    optimizer = optimizer_of(copy.deepcopy(model))
    wrapped = wrap(model, kind)
    world = distributed.get_world_size()

    def run() -> None:
        for step in range(3):
            wrapped.train()(**batch(step, rank, world, torch.float64)).loss.backward()
            optimizer.step()
            model.update_and_allocate(step)
            model.zero_grad()

    return codes(run)


def error_of_a_merged_run(_rank: int, kind: str) -> str:
    """Return the error of a backward pass while the adapter is merged."""
    model: Any = adapted(library="attached")
    wrapped = wrap(model, kind)
    model.merge_adapter()
    try:
        wrapped.train()(**batch(0, 0, 1, torch.float64)).loss.backward()
    except RunError as error:
        return str(error)
    return ""
