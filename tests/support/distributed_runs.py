"""What the processes of the distributed tests do; see process_groups."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.contract import ConfigWarning
from adalora_core.integrations.distributed import factor_placement

STEPS = 30
SAMPLES = 8
WIDTH = 10
"""Not divisible by 4: parts are uneven, and with few triplets some are empty."""
SETTINGS: dict[str, Any] = {
    "target_modules": ["0", "head"],
    "init_r": 6,
    "target_r": 3,
    "tinit": 2,
    "tfinal": 5,
    "deltaT": 2,
    "total_step": STEPS,
}


class Blocks(nn.Module):
    """Three linear layers, two of them in blocks; the loss is a mean over samples."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh())
        self.second = nn.Sequential(nn.Linear(7, 5), nn.Tanh())
        self.head = nn.Linear(5, 3)
        self.to(dtype)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
        logits = self.head(self.second(self.first(x)))
        return Output(nn.functional.cross_entropy(logits, labels), logits)


@dataclass
class Output:
    """Loss first, as in transformers."""

    loss: torch.Tensor
    logits: torch.Tensor


# As transformers does with its outputs: DDP with static_graph=True looks for the tensors of an
# output in this way, and synchronises nothing where it finds none.
torch.export.register_dataclass(Output)


@dataclass
class Trace:
    """What a run did, as one process saw it."""

    masks: list[Any] = field(default_factory=list)
    budgets: list[int] = field(default_factory=list)
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    outputs: torch.Tensor | None = None


def batch(step: int, rank: int, world: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the part of `rank` of the global batch of `step`."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(SAMPLES, WIDTH, generator=generator, dtype=torch.float64)
    labels = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    return {"x": x.to(dtype)[rank::world], "labels": labels[rank::world]}


def adapted(dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """Return the model that all runs begin with."""
    base = Blocks(dtype)
    torch.manual_seed(2)
    with warnings.catch_warnings():
        # Advice about schedules as short as a test's.
        warnings.simplefilter("ignore", ConfigWarning)
        config = AdaLoraConfig(**{**SETTINGS, **changes})
    return get_peft_model(base, config)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW over what is trained."""
    return torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2)


def shard(model: Any, mesh: Any = None, **options: Any) -> Any:
    """Shard the blocks, then the rest, as the documentation of FSDP2 tells."""
    for block in (model.get_base_model().first, model.get_base_model().second):
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def wrap(model: Any, kind: str) -> Any:
    """Return `model` for training by one process, by DDP or by FSDP2."""
    if kind == "ddp":
        return DistributedDataParallel(model)
    if kind == "fsdp2":
        return shard(model, init_device_mesh("cpu", (distributed.get_world_size(),)))
    if kind == "fsdp2-columns":
        world = distributed.get_world_size()
        place = factor_placement(model, world)
        return shard(model, init_device_mesh("cpu", (world,)), shard_placement_fn=place)
    if kind == "hsdp":
        half = distributed.get_world_size() // 2
        return shard(model, init_device_mesh("cpu", (2, half), mesh_dim_names=("copy", "part")))
    return model


def train(
    wrapped: Any,
    model: Any,
    steps: range,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    dtype: torch.dtype = torch.float64,
) -> Trace:
    """Train by this process's part of every batch."""
    rank, world = (
        (distributed.get_rank(), distributed.get_world_size())
        if distributed.is_initialized()
        else (0, 1)
    )
    optimizer = optimizer or optimizer_of(model)
    allocator = model.base_model.trained_adapters()[0].allocator
    trace = Trace()
    wrapped.train()
    for step in steps:
        loss = wrapped(**batch(step, rank, world, dtype)).loss
        loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        trace.masks.append(None if allocator.mask is None else allocator.mask.tolist())
        trace.budgets.append(allocator.budget)
        trace.losses.append(loss.item())
    trace.parameters = whole_parameters(model)
    return trace


def whole_parameters(model: Any) -> dict[str, torch.Tensor]:
    """Return what is trained, gathered; every process has to call it."""
    return {
        name: (each.full_tensor() if hasattr(each, "full_tensor") else each).detach().clone()
        for name, each in model.named_parameters()
        if each.requires_grad
    }


def run(_rank: int, kind: str, changes: dict[str, Any]) -> Trace:
    """Make, wrap and train."""
    model = adapted(**changes)
    return train(wrap(model, kind), model, range(STEPS))
