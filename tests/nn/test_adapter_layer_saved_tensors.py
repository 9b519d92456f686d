"""What an adapted layer keeps for its backward pass, beside PEFT's plain LoRA."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from layers import with_adapter
from saved_tensors import kept_bytes
from torch import nn
from toy_models import tiny_llama

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.nn import wrap_layer

IN, RANK, OUT = 24, 4, 40


def growth(layer: nn.Module, dtype: torch.dtype) -> int:
    layer.train()
    few, many = (torch.randn(2, n, IN, dtype=dtype, requires_grad=True) for n in (32, 64))
    return kept_bytes(layer, lambda: layer(many)) - kept_bytes(layer, lambda: layer(few))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_more_grows_with_the_batch_than_in_plain_lora(
    dtype: torch.dtype, dropout: float
) -> None:
    base = nn.Sequential(nn.Linear(IN, OUT, dtype=dtype))
    config = peft.LoraConfig(r=RANK, lora_dropout=dropout, target_modules=["0"])
    plain = peft.get_peft_model(base, config)
    spec = AdapterSpec(init_r=RANK, lora_dropout=dropout, init_lora_weights=False)
    ours = with_adapter(wrap_layer(nn.Linear(IN, OUT, dtype=dtype), "layer"), spec)
    assert 0 < growth(ours, dtype) <= growth(plain, dtype)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_keeps_no_more_than_with_plain_lora_of_the_same_rank(
    dtype: torch.dtype, dropout: float, op_backend: str
) -> None:
    fields = {"target_modules": "all-linear", "lora_dropout": dropout}
    plain = peft.get_peft_model(tiny_llama(dtype), peft.LoraConfig(r=RANK, **fields))
    schedule = {"init_r": RANK, "target_r": 2, "total_step": 100, "tinit": 1, "tfinal": 10}
    ours = get_peft_model(tiny_llama(dtype), AdaLoraConfig(**schedule, **fields))
    inputs = torch.randn(4, 16, tiny_llama().config.hidden_size, dtype=dtype, requires_grad=True)

    def kept(model: Any) -> int:
        return kept_bytes(model.train(), lambda: model(inputs_embeds=inputs).logits)

    frozen = kept(tiny_llama(dtype).requires_grad_(False))
    assert frozen < kept(ours)
    # In float32 without dropout torch's operations keep x Aᵀ beside the scaled one, as in PEFT.
    most = 1.01 if op_backend != "portable" or dropout or dtype != torch.float32 else 1.3
    assert kept(ours) - frozen <= most * (kept(plain) - frozen)
