"""Hooks on a base layer see its output, and the adapter adds beside it."""

from __future__ import annotations

import torch
from layers import with_adapters
from torch import nn

from adalora_core.adapter_spec import AdapterSpec
from adalora_core.nn import SVDLinear


def layer() -> SVDLinear:
    made = SVDLinear(nn.Linear(4, 3), in_features=4, out_features=3)
    return with_adapters(made, AdapterSpec(init_r=2, init_lora_weights=False))


def test_a_backward_hook_of_the_base_layer_is_called() -> None:
    made, seen = layer(), []
    made.base_layer.register_full_backward_hook(lambda *arguments: seen.append(arguments[2]))
    made(torch.ones(5, 4, requires_grad=True)).sum().backward()
    assert torch.equal(seen[0][0], torch.ones(5, 3))


def test_what_a_forward_hook_keeps_stays_the_base_output() -> None:
    made, kept = layer(), []
    x = torch.ones(5, 4)
    expected = made.base_layer(x).detach().clone()
    made.base_layer.register_forward_hook(lambda *arguments: kept.append(arguments[2]))
    assert not torch.equal(made(x), expected)
    assert torch.equal(kept[0], expected)
