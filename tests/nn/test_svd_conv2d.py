"""SVDConv2d against a convolution with the merged kernel, and against PEFT."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from adalora_runs import SETTINGS
from layers import with_adapter
from torch import nn

from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.nn import SVDConv2d, wrap_layer

SPEC = AdapterSpec(init_r=3, init_lora_weights=False)
SHAPES = [
    {},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": 2},
    {"padding": 1, "padding_mode": "circular"},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": "same"},
    {"groups": 2},
    {"groups": 4, "padding": 1, "padding_mode": "replicate"},
]


def adapted(base: nn.Conv2d, rank: int | None = None) -> Any:
    return with_adapter(wrap_layer(base, "layer"), SPEC, rank=rank)


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("rank", [None, 0])
def test_forward_equals_the_convolution_with_the_merged_kernel(
    options: dict[str, Any], rank: int | None
) -> None:
    layer = adapted(nn.Conv2d(4, 8, 3, **options), rank)
    x = torch.randn(2, 4, 9, 9)
    expected = layer(x)
    layer.base_layer.weight += layer.delta_weight()
    torch.testing.assert_close(layer.base_layer(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"groups": 2}], ids=str)
def test_gradients_reach_input_and_factors(options: dict[str, Any]) -> None:
    layer = adapted(nn.Conv2d(4, 8, 3, **options))
    x = torch.randn(2, 4, 9, 9, requires_grad=True)
    layer(x).square().sum().backward()
    for tensor in (x, *(getattr(layer, f"lora_{each}")["default"] for each in "AEB")):
        assert tensor.grad.abs().sum() > 0
    assert layer.base_layer.weight.grad is None


def test_outputs_equal_pefts_for_one_group_and_zero_padding() -> None:
    base = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, stride=2))
    x = torch.randn(2, 4, 9, 9)
    settings = {**SETTINGS, "target_modules": ["0"], "init_lora_weights": False}
    theirs = peft.get_peft_model(base, peft.AdaLoraConfig(**settings))
    expected = theirs(x)
    factors = {each: getattr(base[0], f"lora_{each}")["default"].detach() for each in "AEB"}
    spec = AdapterSpec(init_r=12, lora_alpha=16)
    layer = with_adapter(wrap_layer(base[0].base_layer, "0"), spec)
    layer.set_factors(**{f"lora_{each}": values for each, values in factors.items()})
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_a_low_precision_base_keeps_its_dtype() -> None:
    layer = adapted(nn.Conv2d(4, 8, 3).to(torch.bfloat16))
    assert isinstance(layer, SVDConv2d)
    assert layer(torch.randn(2, 4, 9, 9, dtype=torch.bfloat16)).dtype is torch.bfloat16
