"""Compare a frozen linear layer with its adapter, forward and backward: ours and PEFT's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peft
import torch
from bench_training_step import BATCHES
from measure import Case
from shapes import RANK

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.ops import svd_linear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = ((384, 384), (384, 1536), (1536, 384))
ADAPTER = {"target_modules": ["0"], "lora_alpha": 32}
SCHEDULE = {"init_r": RANK, "target_r": 4, "total_step": 10**6, "tfinal": 10}


def layers(n_in: int, n_out: int, dtype: torch.dtype) -> dict[str, torch.nn.Module]:
    """Return the same layer, adapted by each contender."""

    def base() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(n_in, n_out, dtype=dtype))

    models: dict[str, Any] = {
        "ours": get_peft_model(base(), AdaLoraConfig(**SCHEDULE, **ADAPTER)),
        "peft": peft.get_peft_model(base(), peft.AdaLoraConfig(**SCHEDULE, **ADAPTER)),
        "plain LoRA": peft.get_peft_model(base(), peft.LoraConfig(r=RANK, **ADAPTER)),
    }
    found = {name: model.train().base_model.model[0] for name, model in models.items()}
    return found | {"alone": base()[0].requires_grad_(False)}  # type: ignore[index] # the layer in it


class TwoNodes(torch.nn.Module):
    """Our layer as two nodes, a linear layer and `svd_linear`, through a hook on the base layer."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both."""
        factors = [getattr(self.layer, f"lora_{each}")["default"] for each in "AEB"]
        output = self.layer.base_layer(x)
        return svd_linear(output, x, *factors, self.layer.scale["default"], inplace=True)


def contenders(
    batch: tuple[int, int], n_in: int, n_out: int, dtype: torch.dtype = torch.float32
) -> dict[str, Callable[[], object]]:
    """Return the functions to compare on one shape."""
    x = torch.randn(*batch, n_in).to(dtype).requires_grad_()
    grad = torch.randn(*batch, n_out).to(dtype)

    def measured(layer: torch.nn.Module) -> Callable[[], object]:
        inputs = [x, *(each for each in layer.parameters() if each.requires_grad)]
        return lambda: torch.autograd.grad(layer(x), inputs, grad)

    found = layers(n_in, n_out, dtype)
    found["two nodes"] = TwoNodes(found["ours"])
    return {name: measured(layer) for name, layer in found.items()}


def cases() -> Iterator[Case]:
    """Yield every comparison."""
    for batch in BATCHES:
        for n_in, n_out in SIZES:
            yield Case(
                "svd_linear, layer",
                f"[{batch[0]} x {batch[1]} x {n_in} -> {n_out}] float32",
                contenders(batch, n_in, n_out),
                against="plain LoRA",
                goal=1.0,
            )
