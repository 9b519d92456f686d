"""Runs that stop at any step, in several shapes, and all that has to come back when they resume."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from adalora_runs import end_step, make, optimizer_of
from torch import nn
from toy_models import Output

from adalora_core import AdaLoraModel
from adalora_core.trainers.distributed import AdapterState

STEPS = 60
SCHEDULES: dict[str, dict[str, Any]] = {
    "every step": {"tinit": 8, "tfinal": 12, "deltaT": 1},
    "every fifth step": {"tinit": 8, "tfinal": 12, "deltaT": 5},
    "no warm-up": {"tinit": 0, "tfinal": 20, "deltaT": 3},
    "no final phase": {"tinit": 4, "tfinal": 0, "deltaT": 7},
    "like LoRA": {"tinit": 0, "tfinal": 36, "deltaT": 1, "init_lora_weights": "lora"},
}
WIDTH = 6
LIKE_IN_A_MODEL = ("first", "second", "third")
NOT_SORTED = ("zeta", "alpha", "mid")
ONE_DTYPE = (torch.float32,) * 3
TWO_DTYPES = (torch.float64, torch.float32, torch.float64)


class Chain(nn.Module):
    """Linear layers one after another, each under a name and in a dtype of its own."""

    def __init__(self, names: tuple[str, ...], dtypes: tuple[torch.dtype, ...]) -> None:
        super().__init__()
        self.names = names
        for index, (name, dtype) in enumerate(zip(names, dtypes, strict=True)):
            torch.manual_seed(index)
            self.add_module(name, nn.Linear(WIDTH + index, WIDTH + index + 1, dtype=dtype))

    def forward(self, x: torch.Tensor) -> Output:
        for name in self.names:
            layer = self.get_submodule(name)
            weight = getattr(layer, "base_layer", layer).weight
            x = torch.tanh(layer(x.to(weight.device, weight.dtype)))
        return Output(x, x.square().mean() + x.mean())


@dataclass
class Shape:
    """What is trained.

    Attributes:
        names, dtypes: of the layers, in the order of the model.
        pruned: a folder with a pruned adapter to begin with; None begins with every triplet.
    """

    names: tuple[str, ...] = LIKE_IN_A_MODEL
    dtypes: tuple[torch.dtype, ...] = ONE_DTYPE
    schedule: dict[str, Any] = field(default_factory=lambda: SCHEDULES["every step"])
    pruned: Path | None = None

    def base(self) -> Chain:
        """Return the base model."""
        return Chain(self.names, self.dtypes)

    def model(self) -> Any:
        """Return the model that the run begins with."""
        torch.manual_seed(3)
        if self.pruned is not None:
            return AdaLoraModel.from_pretrained(self.base(), self.pruned, is_trainable=True)
        settings = {"target_modules": list(self.names), "init_r": 5, "target_r": 3}
        settings |= {"total_step": STEPS, "lora_dropout": 0.1, **self.schedule}
        return make("adalora_core", self.base(), **settings)

    def with_pruned(self, folder: Path) -> Shape:
        """Return the same, but begun with an adapter that was trained, and pruned at its end."""
        model = self.model()
        train(model, optimizer_of(model), range(STEPS))
        model.finalize()
        model.save_pretrained(folder)
        return Shape(self.names, self.dtypes, self.schedule, folder)


@torch.no_grad()
def _batch(step: int) -> torch.Tensor:
    return torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(step))


def train(model: Any, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Run the documented loop."""
    model.train()
    for step in steps:
        (model(_batch(step)).loss * 10).backward()
        end_step(model, optimizer, step)


def everything(model: Any) -> dict[str, Any]:
    """Return all that a resumed run must have in common with the one that did not stop."""
    found: dict[str, Any] = {
        f"parameter {name}": each.detach().clone() for name, each in model.named_parameters()
    }
    for name, adapter in model.base_model.adapters.items():
        allocator = adapter.allocator
        # A tensor per factor: an average must be that of the factor, and not only follow another.
        for kind in ("smoothed", "uncertainty"):
            for index, each in enumerate(getattr(allocator.statistics, kind)):
                found[f"{kind} {name} {index}"] = each.clone()
        found[f"mask {name}"] = torch.tensor([]) if allocator.mask is None else allocator.mask
        found[f"progress {name}"] = (
            allocator.last_step,
            allocator.target_reached,
            list(allocator.history),
            allocator.rank_history(),
            allocator.statistics.ranks,
            allocator.kept(),
            dict(adapter.positions),
            model.peft_config[name].to_json_dict()["rank_pattern"],
        )
    return found


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Both are equal bit for bit."""
    assert found.keys() == expected.keys()
    for name, theirs in expected.items():
        mine = found[name]
        if isinstance(theirs, torch.Tensor):
            assert mine.dtype is theirs.dtype, name
            assert mine.shape == theirs.shape, name
            assert torch.equal(mine, theirs), name
        else:
            assert mine == theirs, name


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below `folder`."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- ways to save and to load ---------------------------------------------------------------------


def save_pretrained(model: Any, folder: Path) -> None:
    """Save a checkpoint as scripts do."""
    model.save_pretrained(folder, save_training_state=True)


def from_pretrained(shape: Shape, folder: Path) -> Any:
    """Load as PEFT does."""
    return AdaLoraModel.from_pretrained(shape.base(), folder, is_trainable=True)


def save_distributed(model: Any, folder: Path) -> None:
    """Save with torch.distributed.checkpoint."""
    dcp.save({"adapter": AdapterState(model)}, checkpoint_id=folder)


def load_distributed(shape: Shape, folder: Path) -> Any:
    """Load with torch.distributed.checkpoint."""
    model = shape.model()
    dcp.load({"adapter": AdapterState(model)}, checkpoint_id=folder)
    return model


def save_accelerate(model: Any, folder: Path) -> None:
    """Save with accelerate."""
    # As safetensors, accelerate leaves out all but one of the empty tensors of modules at rank 0.
    _accelerator(model).save_state(str(folder), safe_serialization=False)


def load_accelerate(shape: Shape, folder: Path) -> Any:
    """Load with accelerate."""
    model = shape.model()
    _accelerator(model).load_state(str(folder))
    return model


def _accelerator(model: Any) -> Any:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    accelerator.register_for_checkpointing(AdapterState(model))
    accelerator.prepare(model)
    return accelerator


Way = tuple["Callable[[Any, Path], None]", "Callable[[Shape, Path], Any]"]
WAYS: dict[str, Way] = {
    "save_pretrained": (save_pretrained, from_pretrained),
    "distributed": (save_distributed, load_distributed),
    "accelerate": (save_accelerate, load_accelerate),
}


def check_resuming(shape: Shape, way: Way, folder: Path, stops: list[int]) -> None:
    """Stop at each of `stops`, resume, make one more step, and compare with the one run.

    All that a step depends on is compared, so a run that is equal after one step stays equal.
    """
    save, load = way
    model = shape.model()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        random = torch.get_rng_state()
        resumed = None
        if step in stops:
            save(model, folder / str(step))
            resumed = load(shape, folder / str(step))
            assert_same(everything(resumed), everything(model))
            if save is save_pretrained:
                save(resumed, folder / "again")
                assert files_in(folder / "again") == files_in(folder / str(step))
            again = optimizer_of(resumed)
            again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            torch.set_rng_state(random)
            train(resumed, again, range(step, step + 1))
        torch.set_rng_state(random)
        train(model, optimizer, range(step, step + 1))
        if resumed is not None:
            assert_same(everything(resumed), everything(model))
