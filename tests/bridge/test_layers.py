"""Every kind of layer that PEFT adapts gets our op when it is attached."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from peft.tuners.adalora import layer as peft_layers
from peft.tuners.adalora.gptq import SVDQuantLinear
from peft.tuners.adalora.layer import SVDLinear
from torch import nn

from adalora_core.bridge import attach
from adalora_core.bridge import layers as bridged

# What PEFT says of a base that it does not know, and GPTQ's own is not installed.
pytestmark = pytest.mark.filterwarnings("ignore:Unsupported layer type")

SETTINGS = {"init_r": 6, "target_r": 3, "total_step": 30, "lora_alpha": 8}


class HiddenWeight(nn.Module):
    """A linear layer as a quantised one looks: integers inside, sizes outside, no `weight`."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("step", linear.weight.abs().max() / 127)
        self.register_buffer("packed", (linear.weight / self.step).round().to(torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.packed * self.step).T


def quantise(model: Any) -> None:
    """Put the layer that PEFT makes of a GPTQ base in the place of the model's only one."""
    tuner = model.base_model
    # Required since PEFT 0.19, and ignored before.
    options: Any = {"r": 6, "lora_alpha": 8, "config": model.peft_config["default"]}
    tuner.model[0] = SVDQuantLinear(
        HiddenWeight(tuner.model[0].base_layer), "default", **options, init_lora_weights=False
    )


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    is_convolution = kind.startswith("convolution")
    stride = 2 if kind == "convolution-strided" else 1
    layer = nn.Conv2d(4, 5, 3, stride, padding=1) if is_convolution else nn.Linear(9, 5)
    config = peft.AdaLoraConfig(target_modules=["0"], init_lora_weights=False, **SETTINGS)
    model = peft.get_peft_model(nn.Sequential(layer), config)
    if kind == "quantised":
        torch.manual_seed(1)
        quantise(model)
    return model


CLASSES = {"linear": SVDLinear, "quantised": SVDQuantLinear}
HAS_CONVOLUTIONS = hasattr(peft_layers, "SVDConv2d")  # since PEFT 0.20
if HAS_CONVOLUTIONS:
    CLASSES |= {"convolution": peft_layers.SVDConv2d, "convolution-strided": peft_layers.SVDConv2d}


def outputs_and_gradients(model: Any, kind: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shape = (3, 4, 9, 9) if kind.startswith("convolution") else (3, 9)
    x = torch.randn(shape, generator=generator, requires_grad=True)
    output = model(x)
    output.square().sum().backward()
    factors = [each.grad for each in model.parameters() if each.requires_grad]
    return [output, x.grad, *factors]


@pytest.mark.parametrize("kind", CLASSES)
def test_outputs_and_gradients_are_those_of_peft(kind: str) -> None:
    expected = outputs_and_gradients(model_of(kind), kind)
    model = attach(model_of(kind))
    assert isinstance(model.base_model.model[0], CLASSES[kind])
    found = outputs_and_gradients(model, kind)
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", CLASSES)
def test_our_op_computes_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counting(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(function.__name__)
            return function(*args, **kwargs)

        return call

    for name in ("adapted_output", "plus_convolutions"):
        monkeypatch.setattr(bridged, name, counting(getattr(bridged, name)))
    outputs_and_gradients(attach(model_of(kind)), kind)
    name = "plus_convolutions" if kind.startswith("convolution") else "adapted_output"
    assert calls == [name]


@pytest.mark.parametrize("kind", CLASSES)
def test_disabled_adapter_leaves_the_base_layer(kind: str) -> None:
    model = attach(model_of(kind))
    shape = (3, 4, 9, 9) if kind.startswith("convolution") else (3, 9)
    x = torch.randn(shape)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), model.base_model.model[0].base_layer(x))


@pytest.mark.skipif(not HAS_CONVOLUTIONS, reason="PEFT adapts no convolution; would have shown one")
def test_convolution_pads_as_its_base_does_and_peft_does_not() -> None:
    def model() -> Any:
        torch.manual_seed(0)
        layer = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")
        config = peft.AdaLoraConfig(target_modules=["0"], init_lora_weights=False, **SETTINGS)
        return peft.get_peft_model(nn.Sequential(layer), config)

    x = torch.randn(1, 2, 5, 5)
    with torch.no_grad():
        ours, theirs = attach(model())(x), model()(x)
        merged = model().merge_and_unload()(x)
    torch.testing.assert_close(ours, merged, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(theirs, merged, atol=1e-2)
