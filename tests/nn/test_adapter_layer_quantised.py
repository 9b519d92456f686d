"""A base layer quantised by torchao, which computes on a CPU."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from adalora_runs import SETTINGS, end_step
from torch import nn

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model

with warnings.catch_warnings():
    # What torchao says while it is imported is not about this package.
    warnings.simplefilter("ignore")
    torchao = pytest.importorskip(
        "torchao.quantization", reason="would have trained over layers quantised to 8 bits"
    )


def quantised() -> nn.Module:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
    torchao.quantize_(base, torchao.Int8WeightOnlyConfig())
    return base


def trained() -> Any:
    settings = {**SETTINGS, "target_modules": ["0", "2"]}
    model = get_peft_model(quantised(), AdaLoraConfig(**settings))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    first = last = None
    for step in range(30):
        x = torch.randn(16, 32, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x).square().mean()
        (loss + model.orthogonality_penalty()).backward()
        end_step(model, optimizer, step)
        first, last = (loss.item() if first is None else first), loss.item()
    assert last < first
    return model


def test_training_over_quantised_layers_reaches_its_budget() -> None:
    model = trained()
    assert type(model.base_model.model[0].weight) is not nn.Parameter
    assert model.base_model.adapters["default"].allocator.budget == 16


def test_the_adapter_is_saved_and_loaded(tmp_path: Any) -> None:
    model = trained()
    model.save_pretrained(tmp_path)
    loaded = AdaLoraModel.from_pretrained(quantised(), tmp_path)
    x = torch.randn(4, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model.eval()(x))


def test_merging_into_quantised_weights_is_refused() -> None:
    with pytest.raises(TypeError, match="no dense floating-point weight"):
        trained().merge_and_unload()
