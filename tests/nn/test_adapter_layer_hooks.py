"""Hooks on a base layer see its output, and the adapter adds beside it."""

from __future__ import annotations

import pytest
import torch
from layers import with_adapter
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers.pytorch_utils import Conv1D

from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.nn import SVDLinear, wrap_layer

SPEC = AdapterSpec(init_r=2, init_lora_weights=False)
BASES = {
    "Linear": (lambda: nn.Linear(4, 3), (5, 4)),
    "Conv1D": (lambda: Conv1D(3, 4), (5, 4)),
    "Conv2d": (lambda: nn.Conv2d(4, 3, 1), (1, 4, 2, 2)),
}


def layer() -> SVDLinear:
    made = SVDLinear(nn.Linear(4, 3), in_features=4, out_features=3)
    return with_adapter(made, SPEC)


def test_a_backward_hook_of_the_base_layer_is_called() -> None:
    made, seen = layer(), []
    made.base_layer.register_full_backward_hook(lambda *arguments: seen.append(arguments[2]))
    made(torch.ones(5, 4, requires_grad=True)).sum().backward()
    assert torch.equal(seen[0][0], torch.ones(5, 3))


@pytest.mark.parametrize("kind", ["Linear", "Conv1D", "Conv2d"])
@pytest.mark.parametrize("is_global", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_what_a_forward_hook_keeps_stays_the_base_output(
    kind: str, is_global: bool, grad: bool
) -> None:
    base, shape = BASES[kind]
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
