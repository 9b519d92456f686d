"""SVDLinear: what it computes, over which base layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layers import with_adapter
from torch import nn

from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.errors import TargetError
from adalora_core.nn import SVDLinear, wrap_layer
from adalora_core.nn.adapter_layer import Product, dense_weight
from adalora_core.nn.svd_linear import plus_products

SPEC = AdapterSpec(init_r=3, lora_alpha=6, init_lora_weights=False)


class HiddenWeight(nn.Module):
    """A linear layer as a quantised one looks: integers inside, sizes outside, no `weight`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        weight = torch.randn(out_features, in_features)
        self.register_buffer("step", weight.abs().max() / 127)
        self.register_buffer("packed", (weight / self.step).round().to(torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.packed * self.step).T.to(x.dtype)


class KeepsItsOutput(nn.Linear):
    """A layer whose backward needs its own output: writing into that would be an error."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(super().forward(x))


def adapted(base: nn.Module, spec: AdapterSpec = SPEC) -> Any:
    return with_adapter(wrap_layer(base, "layer"), spec)


def delta(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """The adapter's product, written out in float64 (paper equation 3)."""
    factor_a, factor_e, factor_b = (
        getattr(layer, f"lora_{each}")["default"].detach().double() for each in "AEB"
    )
    return (x.double() @ factor_a.T * factor_e[:, 0] @ factor_b.T) * 6 / (3 + 1e-5)


def names_of_nodes(output: torch.Tensor) -> list[str]:
    """Return the names of the last node and of those right before it."""
    node = output.grad_fn
    assert node is not None
    return [type(node).__name__, *(type(each).__name__ for each, _ in node.next_functions)]


def watched_in_front(layer: nn.Linear, seen: list[Any]) -> None:
    layer.register_forward_pre_hook(lambda *_: seen.append("called"))


def watched_behind(layer: nn.Linear, seen: list[Any]) -> None:
    layer.register_forward_hook(lambda *_: seen.append("called"))


def replaced(layer: nn.Linear, seen: list[Any]) -> None:
    """Give the instance a forward of its own, as accelerate does to move weights about."""
    forward = layer.forward
    layer.forward = lambda x: (seen.append("called"), forward(x))[1]  # type: ignore[method-assign]


@pytest.mark.usefixtures("op_backend")
@pytest.mark.parametrize("watch", [watched_in_front, watched_behind, replaced])
def test_what_watches_the_base_layer_still_sees_its_calls(watch: Any) -> None:
    base, seen = nn.Linear(5, 7), []
    layer = adapted(base)
    x = torch.randn(4, 5)
    expected = layer(x)
    watch(base, seen)
    output = layer(x)
    assert seen == ["called"]
    assert names_of_nodes(output)[0] == names_of_nodes(expected)[0] == "AdapterNodeBackward"
    assert torch.equal(output, expected)


def test_a_base_layer_that_is_trained_gets_its_gradient() -> None:
    base = nn.Linear(5, 7)
    layer = adapted(base)
    base.requires_grad_()
    x = torch.randn(4, 5)
    layer(x).sum().backward()
    torch.testing.assert_close(base.weight.grad, x.sum(0).expand(7, 5))


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (0, 5)])
def test_forward_is_base_plus_scaled_product(shape: tuple[int, ...]) -> None:
    base = nn.Linear(5, 7)
    x = torch.randn(shape)
    expected = base(x).detach().double()
    layer = adapted(base)
    torch.testing.assert_close(layer(x).double(), expected + delta(layer, x), atol=1e-5, rtol=1e-5)


def test_conv1d_of_transformers_is_adapted_in_its_own_layout() -> None:
    from transformers.pytorch_utils import Conv1D

    base = Conv1D(7, 5)
    x = torch.randn(4, 5)
    layer = adapted(base)
    before = layer(x)
    assert layer.delta_weight().shape == base.weight.shape == (5, 7)
    base.weight += layer.delta_weight()
    torch.testing.assert_close(base(x), before, atol=1e-5, rtol=1e-5)


def test_a_layer_that_hides_its_weight_trains_and_does_not_merge() -> None:
    layer = adapted(HiddenWeight(5, 7))
    x = torch.randn(4, 5, requires_grad=True)
    layer(x).square().sum().backward()
    assert layer.lora_A["default"].grad.abs().sum() > 0
    assert x.grad is not None
    with pytest.raises(TypeError, match="HiddenWeight has no dense"):
        dense_weight(layer.base_layer, "layer")


def test_a_layer_that_keeps_its_output_is_added_to_out_of_place() -> None:
    layer = adapted(KeepsItsOutput(5, 7))
    assert layer.keeps_output
    layer(torch.randn(4, 5, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_factors_are_float32_at_least_and_outputs_keep_the_bases_dtype(dtype: torch.dtype) -> None:
    layer = adapted(nn.Linear(5, 7).to(dtype))
    x = torch.randn(4, 5).to(dtype).requires_grad_()
    y = layer(x)
    wanted = torch.float64 if dtype is torch.float64 else torch.float32
    assert layer.lora_A["default"].dtype is wanted
    assert y.dtype is dtype
    y.sum().backward()
    assert x.grad.dtype is dtype
    assert layer.lora_B["default"].grad.dtype is wanted


def test_factors_may_follow_the_bases_dtype() -> None:
    wrapped = wrap_layer(nn.Linear(5, 7).to(torch.bfloat16), "layer")
    layer = with_adapter(wrapped, SPEC, dtype=wrapped.base_device_and_dtype()[1])
    assert layer.lora_A["default"].dtype is torch.bfloat16
    assert layer(torch.randn(4, 5, dtype=torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize("start", [False, True, "lora"])
def test_rank_zero_is_the_base_layer(start: bool | str) -> None:
    base = nn.Linear(5, 7)
    spec = AdapterSpec(init_r=3, init_lora_weights=start)
    layer = with_adapter(SVDLinear(base, in_features=5, out_features=7), spec, rank=0)
    x = torch.randn(4, 5)
    torch.testing.assert_close(layer(x), base(x))


def test_dropout_acts_in_training_only() -> None:
    layer = adapted(
        nn.Linear(5, 7), AdapterSpec(init_r=3, lora_dropout=0.5, init_lora_weights=False)
    )
    x = torch.randn(64, 5)
    layer.eval()
    torch.testing.assert_close(layer(x), layer(x))
    layer.train()
    assert not torch.allclose(layer(x), layer(x))


@pytest.mark.parametrize(
    "module", [nn.Embedding(4, 4), nn.LayerNorm(4), nn.Conv1d(2, 2, 1), nn.ReLU()]
)
def test_a_module_that_cannot_be_adapted_is_named(module: nn.Module) -> None:
    with pytest.raises(TargetError, match=f"'some.path' \\({type(module).__name__}\\)"):
        wrap_layer(module, "some.path")


def test_order_of_several_products_does_not_show_in_the_rounding() -> None:
    x, output = torch.randn(4, 9), torch.randn(4, 5)
    factors = [torch.randn(6, 9), torch.randn(6, 1), torch.randn(5, 6)]
    others = [torch.randn(6, 9), torch.randn(6, 1), torch.randn(5, 6)]
    products = [Product(*each, 0.7, 0.0) for each in (factors, others)]
    first = plus_products(output, x, products, inplace=False)
    assert torch.equal(first, plus_products(output, x, products[::-1], inplace=False))
