"""What an adapted layer keeps for its backward pass, beside PEFT's plain LoRA."""

from __future__ import annotations

import peft
import pytest
import torch
from layers import with_adapters
from torch import nn

from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.nn import wrap_layer

IN, RANK, OUT = 24, 4, 40


def kept_bytes(layer: nn.Module, rows: int, dtype: torch.dtype) -> int:
    """Return the bytes of all tensors that a forward pass saves, shared memory counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(2, rows, IN, dtype=dtype, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(x)
    del output
    return sum(kept.values())


def growth(layer: nn.Module, dtype: torch.dtype) -> int:
    layer.train()
    return kept_bytes(layer, 64, dtype) - kept_bytes(layer, 32, dtype)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_more_grows_with_the_batch_than_in_plain_lora(
    dtype: torch.dtype, dropout: float
) -> None:
    base = nn.Sequential(nn.Linear(IN, OUT, dtype=dtype))
    config = peft.LoraConfig(r=RANK, lora_dropout=dropout, target_modules=["0"])
    plain = peft.get_peft_model(base, config)
    spec = AdapterSpec(init_r=RANK, lora_dropout=dropout, init_lora_weights=False)
    ours = with_adapters(wrap_layer(nn.Linear(IN, OUT, dtype=dtype), "layer"), spec, "default")
    assert 0 < growth(ours, dtype) <= growth(plain, dtype)
