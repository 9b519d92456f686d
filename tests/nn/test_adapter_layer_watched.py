"""Adapted layers of every kind under hooks, and under what records or transforms operations."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from layers import with_adapter
from tolerances import assert_all_close
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers.pytorch_utils import Conv1D
from watchers import CASES, WATCHERS

from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.nn import wrap_layer

SPEC = AdapterSpec(init_r=3, lora_alpha=6, init_lora_weights=False)
IMAGE = (2, 4, 5, 5)

# (base layer, shape of the input)
LAYERS: dict[str, Any] = {
    "Linear": (lambda: nn.Linear(6, 5), (2, 4, 6)),
    "Conv1D": (lambda: Conv1D(5, 6), (2, 4, 6)),
    "Conv2d": (lambda: nn.Conv2d(4, 3, 3, padding=1), IMAGE),
    "Conv2d, groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), IMAGE),
}


def function_of(module: nn.Module) -> Any:
    """Return a function, since some ways take no module."""

    def call(x: torch.Tensor) -> Any:
        return module(x)

    return call


@pytest.mark.parametrize("watcher", CASES)
@pytest.mark.parametrize("kind", LAYERS)
def test_it_sees_what_the_merged_layer_shows(kind: str, watcher: str) -> None:
    base, shape = LAYERS[kind]
    layer = with_adapter(wrap_layer(base().double(), "layer"), SPEC)
    layer.requires_grad_(requires_grad=False)
    merged = copy.deepcopy(layer.base_layer)
    merged.weight += layer.delta_weight()
    inputs, others = ([torch.randn(shape, dtype=torch.float64)] for _ in range(2))
    found, expected = (
        WATCHERS[watcher](function_of(each), inputs, others) for each in (layer, merged)
    )
    assert_all_close(found, expected, torch.float64)


def test_a_backward_hook_of_the_base_layer_is_called() -> None:
    made, seen = with_adapter(wrap_layer(nn.Linear(4, 3), "layer"), SPEC), []
    made.base_layer.register_full_backward_hook(lambda *arguments: seen.append(arguments[2]))
    made(torch.ones(5, 4, requires_grad=True)).sum().backward()
    assert torch.equal(seen[0][0], torch.ones(5, 3))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("is_global", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_what_a_forward_hook_keeps_stays_the_base_output(
    kind: str, is_global: bool, grad: bool
) -> None:
    base, shape = LAYERS[kind]
    made = with_adapter(wrap_layer(base(), "layer"), SPEC)
    x = torch.ones(shape)
    expected = made.base_layer(x).detach().clone()
    kept = {}

    def keep(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        kept[module] = output

    register = register_module_forward_hook if is_global else made.base_layer.register_forward_hook
    handle = register(keep)
    try:
        with torch.set_grad_enabled(grad):
            assert not torch.equal(made(x), expected)
    finally:
        handle.remove()
    assert torch.equal(kept[made.base_layer], expected)
