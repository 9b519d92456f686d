"""What the processes of the distributed tests do; see process_groups."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from adalora_runs import allocator_of, make, optimizer_of
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from adalora_core.sharding import whole
from adalora_core.trainers.distributed import check_agreement, factor_placement

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
    "lora_alpha": 8,
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

    def note(self, model: Any) -> None:
        """Note the kept set and the budget after a step."""
        allocator = allocator_of(model)
        self.masks.append(None if allocator.mask is None else allocator.mask.tolist())
        self.budgets.append(allocator.budget)


def batch(
    step: int, rank: int = 0, world: int = 1, dtype: torch.dtype = torch.float64
) -> dict[str, torch.Tensor]:
    """Return the part of `rank` of the global batch of `step`."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(SAMPLES, WIDTH, generator=generator, dtype=torch.float64)
    labels = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    return {"x": x.to(dtype)[rank::world], "labels": labels[rank::world]}


def mine(step: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Return the part of this process of the global batch of `step`."""
    if not distributed.is_initialized():
        return batch(step, dtype=dtype)
    return batch(step, distributed.get_rank(), distributed.get_world_size(), dtype)


def adapted(
    dtype: torch.dtype = torch.float64, library: str = "adalora_core", **changes: Any
) -> Any:
    """Return the model that all runs begin with."""
    base = Blocks(dtype)
    torch.manual_seed(2)
    return make(library, base, **{**SETTINGS, **changes})


def attached(**changes: Any) -> Any:
    """Return PEFT's model of `Blocks`, attached."""
    return adapted(library="attached", **changes)


def shard(model: Any, mesh: Any = None, **options: Any) -> Any:
    """Shard the blocks, then the rest, as the documentation of FSDP2 tells."""
    for block in (model.get_base_model().first, model.get_base_model().second):
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def wrap(model: Any, kind: str, **options: Any) -> Any:
    """Return `model` for training by one process, by DDP with `options`, or by FSDP2."""
    if kind == "ddp":
        return DistributedDataParallel(model, **options)
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


class Prepared(NamedTuple):
    """What a run needs."""

    model: Any
    wrapped: Any
    optimizer: torch.optim.Optimizer


def prepare(kind: str, make: Callable[[], Any] = adapted) -> Prepared:
    """Make and wrap a model, and make the optimizer of what the wrapped one trains."""
    model = make()
    return Prepared(model, wrap(model, kind), optimizer_of(model))


def train(
    wrapped: Any,
    model: Any,
    steps: range,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    dtype: torch.dtype = torch.float64,
    backward: Callable[[int, dict[str, torch.Tensor]], torch.Tensor] | None = None,
    skipped: Collection[int] = (),
) -> Trace:
    """Train by this process's part of every batch.

    Args:
        wrapped: what is called.
        model: what allocates.
        steps: which steps.
        optimizer: of the parameters of `wrapped`; made here if it is left out.
        dtype: of the inputs.
        backward: makes the gradients of a step and a batch and returns the entry of `losses`;
            without it the loss of the model is differentiated.
        skipped: steps at which the optimizer changes nothing.
    """
    optimizer = optimizer or optimizer_of(model)
    trace = Trace()
    wrapped.train()
    for step in steps:
        given = mine(step, dtype)
        if backward is None:
            loss = wrapped(**given).loss
            loss.backward()
        else:
            loss = backward(step, given)
        if step not in skipped:
            optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        trace.note(model)
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


def run(
    _rank: int, kind: str, changes: dict[str, Any], make: Callable[..., Any] = adapted
) -> Trace:
    """Make, wrap and train."""
    model = make(**changes)
    wrapped = wrap(model, kind)
    trace = train(wrapped, model, range(STEPS))
    check_agreement(wrapped)
    return trace


def assert_same(found: Trace, expected: Trace, start: int = 0) -> None:
    """Compare a run from step `start` on with one from the beginning, up to rounding."""
    assert found.budgets == expected.budgets[start:]
    assert found.masks == expected.masks[start:]
    assert found.parameters.keys() == expected.parameters.keys()
    for name, parameter in expected.parameters.items():
        torch.testing.assert_close(found.parameters[name], parameter, atol=1e-9, rtol=0)


class ReadsItsHead(Blocks):
    """Computes with the weight of the head and never calls it, so that an adapter does nothing."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Output:
        hidden = self.second(self.first(x))
        logits = nn.functional.linear(hidden, self.head.weight, self.head.bias)
        return Output(nn.functional.cross_entropy(logits, labels), logits)


def adapter_without_gradient() -> Any:
    """Return a model, one of whose adapted layers is never called."""
    base = ReadsItsHead()
    torch.manual_seed(2)
    return make("adalora_core", base, **SETTINGS, init_lora_weights=False, orth_reg_weight=0.5)


def kept_without_gradient_at(
    _rank: int, kind: str, stop: int
) -> tuple[list[list[bool]], list[bool], torch.Tensor]:
    """Return the kept set, which matrices had no gradient, and the E of the one."""
    model, wrapped, optimizer = prepare(kind, adapter_without_gradient)
    train(wrapped, model, range(stop), optimizer=optimizer)
    allocator = allocator_of(model)
    values = whole(model.get_base_model().head.lora_E["default"].detach())
    return [*allocator.kept().values()], allocator.without_gradient.tolist(), values
