"""Draw the factors of a new adapter, with the random numbers of PEFT."""

from __future__ import annotations

import math

import torch
from torch import nn

from adalora_core.floor.adapter_spec import LORA_START, AdapterSpec

INIT_STD = 0.02
"""Standard deviation of A and B at the start, as in the authors' code and in PEFT."""


def initial_factors(
    shapes: dict[str, tuple[int, int]], spec: AdapterSpec, device: torch.device | None
) -> dict[str, torch.Tensor]:
    """Return A, E and B of a new adapter; ΔW is zero unless `init_lora_weights` is false.

    By default E is zero, and A and B are normal with standard deviation `INIT_STD`. PEFT draws
    every factor from a normal distribution of deviation 1, then one number that it overwrites, and
    then A and B anew. The same draws in the same order give the same adapter and leave the
    generator in the same state. With `init_lora_weights` false the first draws are kept.

    With `init_lora_weights` "lora" the start is that of `lora_start`.
    """
    if device is not None and device.type == "meta":
        return {factor: torch.empty(shape, device=device) for factor, shape in shapes.items()}
    if spec.init_lora_weights == LORA_START:
        return lora_start(shapes)
    drawn = {factor: torch.randn(shape) for factor, shape in shapes.items()}
    torch.randn(1)
    if spec.init_lora_weights:
        drawn["lora_E"].zero_()
        drawn["lora_A"].normal_(std=INIT_STD)
        drawn["lora_B"].normal_(std=INIT_STD)
    return drawn


def lora_start(shapes: dict[str, tuple[int, int]]) -> dict[str, torch.Tensor]:
    """Return the start of LoRA: A is Kaiming-uniform with a = √5, E is 1 and B is 0.

    PEFT's LoRA draws A and B as torch does for a new layer, and then A anew. The same draws in the
    same order give the same A, and leave the generator in the same state.
    """
    A, B = torch.empty(shapes["lora_A"]), torch.empty(shapes["lora_B"])
    for factor in (A, B, A):
        if factor.numel():  # of rank 0, torch would warn
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))
    return {"lora_A": A, "lora_E": torch.ones(shapes["lora_E"]), "lora_B": B.zero_()}


def rounding_dtype(base_layer: nn.Module) -> torch.dtype | None:
    """Return the dtype to which PEFT rounds the initial factors; None if it does not round them."""
    computed = getattr(base_layer, "compute_dtype", None)
    if isinstance(computed, torch.dtype):
        return computed
    weight = getattr(base_layer, "weight", getattr(base_layer, "qweight", None))
    if isinstance(weight, torch.Tensor) and weight.dtype.is_floating_point:
        return weight.dtype
    return None
