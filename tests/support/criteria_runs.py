"""What the processes of the tests of importance criteria do; see process_groups."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from adalora_runs import allocator_of
from distributed_runs import STEPS, adapted, mine, prepare, train
from torch import distributed

from adalora_core.floor.errors import RankDisagreementError

if TYPE_CHECKING:
    from collections.abc import Mapping


def energy_and_gradient(path: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Score a triplet by its update of the weight times the sizes of its gradients."""
    del path
    A, E, B = (tensors[f"lora_{each}"] for each in "AEB")
    energy = E.flatten().abs() * A.norm(dim=1) * B.norm(dim=0)
    A, E, B = (tensors[f"lora_{each}.grad"] for each in "AEB")
    return energy * E.flatten().abs() * A.norm(dim=1) * B.norm(dim=0)


def by_process(path: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Score triplets in another order on each process."""
    del path
    order = torch.arange(float(len(tensors["lora_E"])))
    return -order if distributed.get_rank() else order


def scores_of(criterion: Any, kind: str, stop: int) -> torch.Tensor:
    """Return the scores after `stop` steps."""
    model, wrapped, optimizer = prepare(kind, partial(adapted, importance_criterion=criterion))
    train(wrapped, model, range(stop - 1), optimizer=optimizer)
    wrapped.train()
    wrapped(**mine(stop - 1)).loss.backward()
    optimizer.step()
    return _scores_after(model, stop - 1)


def scores_in_process(_rank: int, criterion: Any, kind: str, stop: int) -> torch.Tensor:
    """Return `scores_of`, in one process of several."""
    return scores_of(criterion, kind, stop)


def _scores_after(model: Any, step: int) -> torch.Tensor:
    model.update_and_allocate(step)
    allocator = allocator_of(model)
    return allocator.criterion.scores(allocator._factors())


def train_by_process(_rank: int, kind: str) -> str:
    """Train with scores that differ between processes; return the error, or the kept set."""
    model, wrapped, optimizer = prepare(kind, partial(adapted, importance_criterion=by_process))
    try:
        train(wrapped, model, range(STEPS), optimizer=optimizer)
    except RankDisagreementError as error:
        return str(error)
    return str(allocator_of(model).kept())
