"""Build small models with an adapter through each door, and the same of plain torch.

The factors of a model depend on the names of its modules alone, so every door and the reference
compute the same.
"""

from __future__ import annotations

import contextlib
import tempfile
from typing import TYPE_CHECKING, Any

import torch
from probe_setting import bridge
from torch import nn
from torch.nn.utils import parametrizations

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.bridge import attach
from adalora_core.floor.adapter_spec import scale_of
from adalora_core.ops import _backend
from adalora_core.reference import svd_linear

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH, RANK, ALPHA = 8, 3, 6
CONFIG: dict[str, Any] = {
    "init_r": RANK,
    "target_r": 2,
    "total_step": 100,
    "lora_alpha": ALPHA,
    "target_modules": ["first", "second", "linear1", "linear2"],
}
SHAPES = {"lora_A": (RANK, None), "lora_E": (RANK, 1), "lora_B": (None, RANK)}
DOORS = ("own API", "changed import", "attach")
BACKENDS = ("native", "portable")


class Small(nn.Module):
    """Two layers to adapt and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[..., WIDTH]` to `[..., WIDTH]`."""
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A layer of torch that has a fast path in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[batch, length, WIDTH]` to the same."""
        return self.layer(x)  # type: ignore[no-any-return]


def shared() -> nn.Module:
    """Return a model with one module under two names."""
    model = Small()
    model.head = model.first
    return model


def parametrised(kind: str) -> nn.Module:
    """Return a model with a layer whose weight is computed."""
    model = Small()
    name = kind.removeprefix("old ")
    getattr(parametrizations if name == kind else nn.utils, name)(model.first)
    return model


@contextlib.contextmanager
def offloaded(place: str) -> Iterator[nn.Module]:
    """Yield a model whose adapted layers accelerate keeps on the CPU or on a disk."""
    from accelerate import cpu_offload, disk_offload

    model = Small()
    with tempfile.TemporaryDirectory() as folder:
        if place == "disk":
            disk_offload(model, folder, execution_device=torch.device("cpu"))
        else:
            cpu_offload(model, execution_device=torch.device("cpu"))
        yield model


def values(path: str, factor: str, like: torch.Tensor) -> torch.Tensor:
    """Return the values of a factor of the layer at `path`."""
    generator = torch.Generator().manual_seed(sum(map(ord, path + factor)))
    return 0.3 * torch.randn(like.shape, generator=generator).to(like.dtype)


def adapted(base: nn.Module, door: str) -> Any:
    """Return `base` with an adapter whose factors are not zero."""
    if door == DOORS[0]:
        model: Any = get_peft_model(base, AdaLoraConfig(**CONFIG))
    else:
        import peft

        model = peft.get_peft_model(base, peft.AdaLoraConfig(**CONFIG))
        if door == DOORS[2]:
            attach(model)
    for name, parameter in factors_of(model).items():
        path, factor = name.rsplit(".", 1)
        with torch.no_grad():
            parameter.copy_(values(path, factor, parameter))
    return model


class Plain(nn.Module):
    """A linear layer and an adapter, by torch's operations and nothing else."""

    def __init__(self, base: nn.Module, path: str) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(requires_grad=False)
        shapes = ((RANK, base.in_features), (RANK, 1), (base.out_features, RANK))
        for letter, shape in zip("AEB", shapes, strict=True):
            made = nn.Parameter(values(path, f"lora_{letter}", torch.empty(shape)))
            self.register_parameter(f"lora_{letter}", made)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer and the adapter."""
        factors = self.lora_A, self.lora_E, self.lora_B
        return svd_linear(self.base_layer(x), x, *factors, scale_of(ALPHA, RANK))  # type: ignore[arg-type] # parameters


def reference(base: nn.Module) -> nn.Module:
    """Return `base` with plain adapters of the same values."""
    base.requires_grad_(requires_grad=False)
    made: dict[nn.Module, Plain] = {}
    for path, module in [*base.named_modules(remove_duplicate=False)]:
        parent, _, name = path.rpartition(".")
        if name in CONFIG["target_modules"]:
            made[module] = Plain(module, path)
        if module in made:
            setattr(base.get_submodule(parent), name, made[module])
    return base


def factors_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the factors, `{path of the layer + factor: parameter}`, in an order of their names."""
    found = {}
    for name, parameter in model.named_parameters():
        path, mark, factor = name.partition(".lora_")
        if mark:
            path = path.removeprefix("base_model.model.")
            found[f"{path}.lora_{factor[0]}"] = parameter
    return dict(sorted(found.items()))


@contextlib.contextmanager
def through(door: str, backend: str) -> Iterator[None]:
    """Serve models by `backend`; with the changed import, those of PEFT are bridged."""
    held = _backend.HAS_CORE
    _backend.HAS_CORE = held and backend == "native"
    try:
        with bridge() if door == DOORS[1] else contextlib.nullcontext():
            yield
    finally:
        _backend.HAS_CORE = held
